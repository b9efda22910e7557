"""What is seen when, as pure functions of (seed, epoch, sample): random bits, orders, augmentation. Open
`randomness.py` first.
"""
