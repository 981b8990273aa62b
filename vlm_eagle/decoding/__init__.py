"""Grow a tree, verify it in one target forward, commit; until the end."""
