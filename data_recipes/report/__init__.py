"""What a data set holds, as training will see it: counted (`statistics.py`), and shown (`tables.py`, `page.py`)."""

SIZES = (8000, 16000, 32000)  # draft vocabularies that are compared
