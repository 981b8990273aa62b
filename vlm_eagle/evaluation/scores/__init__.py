"""Acceptance measured and summed: what vlm-eagle score and the comparison are made of."""
