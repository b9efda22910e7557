"""Which images train, which monitor and which judge: splits, groups and folds. Open `assign.py` first."""
