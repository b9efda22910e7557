"""Channels of a trained network: what each counts, and a network without some. Open `channels.py` first, then
`scores.py` and `cut.py`.
"""
