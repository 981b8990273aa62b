"""The embedded default: generated scenes and texts, the target trained on them, and the data it writes."""
