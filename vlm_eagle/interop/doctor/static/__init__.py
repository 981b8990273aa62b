"""Checks of what is written: config.json and the tensors, against the target's configuration."""
