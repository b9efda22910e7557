"""How fast a bundle's files answer on this machine, each measured in a process of its own. Open `benchmark.py`
first.
"""
