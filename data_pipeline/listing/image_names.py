"""Which files are named like images. Apart, for `predict` starts faster without the rest."""

EXTENSIONS = (b".jpg", b".jpeg", b".png", b".bmp", b".tif", b".tiff", b".webp", b".ppm", b".pgm", b".gif")
"""Ends of names in lower case, as bytes: names need not be UTF-8."""
