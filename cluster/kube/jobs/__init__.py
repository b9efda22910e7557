"""A job as a RayJob: its manifest, the sizes of its pods, its states. Open `target.py` first; `jobs_api` is its twin
over HTTP.
"""
