"""One file for each format that a bundle can hold. Open `build.py` first; `load.py` opens what was written."""
