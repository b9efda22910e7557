"""Kueue's queues, quotas and teams: made, shown, and checked before a job is submitted. Open `apply.py` first."""
