"""Which widths meet a target and keep most: targets, costs, an exact knapsack. Torch-free. Open `solve.py` first."""
