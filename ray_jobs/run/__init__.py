"""The files of a run under `<storage.root>/runs/<name>`, and the records of its start and end. Open `directory.py`
first.
"""
