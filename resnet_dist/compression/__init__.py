"""Smaller networks from trained ones: learnt from a teacher's answers, or cut out of one. Open `config.py` first,
`channels.py` for which channels and blocks count.
"""
