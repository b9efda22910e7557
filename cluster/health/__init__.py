"""Whether machines can run jobs and agree with each other. Open `preflight.py` first for one machine,
`comparison.py` for several.
"""
