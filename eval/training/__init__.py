"""What `ablation.py` runs."""
