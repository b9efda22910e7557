"""Jobs on any running Ray over its HTTP Jobs API. Open `target.py` first; `kube/jobs` is its twin on Kubernetes."""
