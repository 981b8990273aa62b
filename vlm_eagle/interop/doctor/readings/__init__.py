"""Checks of what happens: the draft read as it is written and with each usual mistake undone, on the target's own answers."""
