"""Other projects' draft layouts, the engines that serve drafts, and the model card."""
