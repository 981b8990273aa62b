"""Training-time test and its losses, where features come from, the training loop, and what a run will need."""
