"""A checkpoint: a directory that is complete or absent. Open `manifest.py` first."""
