"""How long networks take by their widths, measured on this machine. Torch-free. Open `measuring.py` first, `fit.py` for
the widths that a target of latency asks for.
"""
