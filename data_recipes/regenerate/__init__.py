"""Keeps prompts and lets the target rewrite the answers: on-policy data, from servers or by our own speculative decoding."""
