"""Answers timed: what speedup.py and overhead.py are made of."""
