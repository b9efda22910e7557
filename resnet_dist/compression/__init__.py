"""Smaller networks from trained ones. Rooms: distillation, pruning, planning (which widths), latency (how fast they are
on this machine). Open `config.py` first.
"""
