"""`resnet-dist compress`: from a trained run to runs that are smaller and faster. Open `prune.py` first, `phase_job.py`
for the job of each phase, `ladder.py` for what they come to.
"""
