"""Finds out why a draft is accepted less than it should be: static checks (`check_*.py`), then measurements (`diagnose.py`)."""
