"""A cache of the features that frozen stages compute, shared between trainings through files. Open `reuse.py` first,
`store.py` for the files.
"""
