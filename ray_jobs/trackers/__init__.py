"""Weights & Biases, TensorBoard and MLflow, none of which can stop a run. Open `tracker.py` first, then `build.py`."""
