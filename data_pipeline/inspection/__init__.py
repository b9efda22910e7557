"""What is known of a data set before training: copies, faulty files, wrong labels, spurious cues. Open `findings.py`
first, and `copies.py` for how copies are found.
"""
