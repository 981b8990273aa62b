"""Conversations, and how they become batches."""
