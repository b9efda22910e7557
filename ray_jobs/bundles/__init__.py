"""`export`, `benchmark`, `promote` and `pull`: a run's model as a bundle, and the registry of bundles in production.
Open `export.py` first, `registry.py` for what is in production.
"""
