"""Drafts between layouts and engines: what others wrote, what engines read, and a doctor for what went wrong on the way."""
