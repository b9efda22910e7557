"""Smaller networks from trained ones: which channels and blocks count, and a network without the others. Open
`channels.py` first.
"""
