"""Milliseconds of a network by its widths, measured on this machine. Torch-free. Open `measuring.py` first, and `fit.py`
for the widths that a target of latency asks for.
"""
