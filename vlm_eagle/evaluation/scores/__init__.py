"""Acceptance measured and summed: what acc_length.py and the comparison are made of."""
