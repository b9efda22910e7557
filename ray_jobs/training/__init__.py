"""`resnet-dist train`: the driver that starts worker groups and restarts them, and what each worker runs. Open
`driver.py` first for the driver's side, `rank.py` for a worker's.
"""
