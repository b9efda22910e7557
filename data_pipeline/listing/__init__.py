"""Which images there are: folders or tables of labels, scanned, decoded once and indexed. Open `index.py` first."""
