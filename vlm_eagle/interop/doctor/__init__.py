"""Why is a draft accepted less than it should be? `examination.py` asks `static/` what is written and `readings/` what fits."""
