"""Time measured: what vlm-eagle speedup is made of."""
