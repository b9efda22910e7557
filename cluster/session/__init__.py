"""Connecting to a Ray or starting one, its nodes' resources, and placing workers there. Open `session.py` first."""
