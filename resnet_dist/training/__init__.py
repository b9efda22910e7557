"""The training loop and its parts: losses, mixing, reductions, optimizer, schedules, averages. Open `fit.py` first."""
