"""`resnet-dist doctor`: what this machine, or a node of a cluster, lacks to run jobs. Open `machine.py` first, and
`cluster.py` for many nodes.
"""
