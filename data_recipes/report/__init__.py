"""What a data set holds, as training will see it: counted (`statistics.py`), and shown (`tables.py`, `page.py`)."""
