"""Seeded faults on a running training and a running search. Open __main__.py first: it plans, runs and reports."""
