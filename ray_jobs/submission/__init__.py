"""Commands that run elsewhere: planned here, sent to Kubernetes or to a Ray Jobs API, run there by the pod's entry
point, watched from here. Open `plan.py` first, `entrypoint.py` for what a pod starts.
"""
