"""Prompts kept, answers written anew by the target: on-policy data, through servers or by our own speculative loop."""
