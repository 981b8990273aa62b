"""The embedded default: generated scenes and texts, the target that learnt them, and the data it writes."""
