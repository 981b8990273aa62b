"""Readers: a row in some common schema to turns. Each raises BadRow for what it cannot read, and nothing else."""
