"""A Ray to run on: connecting or starting one, what its nodes have, placing workers there. Open `session.py` first."""
