"""`resnet-dist data inspect` and what goes by its record: leaks before a training, splits that keep copies together,
and differences of two data sets. Open `inspect.py` first.
"""
