"""Recipes: which data, how much of it, in which proportion."""
