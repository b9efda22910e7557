"""Batches of images on a device: DALI on CPU or GPU, the reference, synthetic images. Open `build.py` first,
`batching.py` for the order and the cut that all share.
"""
