"""`resnet-dist evaluate`: a run's model judged on a split by several workers. Open `evaluate.py` first."""
