"""Values in 8 bits: how they are rounded (`dialect.py`), and networks that learn while they are rounded so. Open
`network.py` first. Files in 8 bits are written by `resnet_dist.export.int8`.
"""
