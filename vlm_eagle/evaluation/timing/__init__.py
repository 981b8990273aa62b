"""Time and memory measured: what speedup.py, overhead.py and train_speed.py are made of."""
