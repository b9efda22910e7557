"""`resnet-dist doctor`: what this machine lacks, or each node of a cluster. Open `machine.py` first, `cluster.py`
for many nodes.
"""
