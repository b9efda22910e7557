"""The network: ResNets with squeeze-excite, freezing by stage, and the split into a folded trunk and a suffix. Open
`resnet.py` first.
"""
