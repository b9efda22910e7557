"""How a model is judged: metrics, bootstrap intervals, calibration, operating points. Open `judge.py` first."""
