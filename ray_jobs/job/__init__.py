"""What a job is, as text and as values: the config tree, TOML files, overrides and the run's identity. Open
`config.py` first.
"""
