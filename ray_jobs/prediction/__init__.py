"""Answers of a bundle for images, on this machine or in parts on a Ray. Open `predict.py` first."""
