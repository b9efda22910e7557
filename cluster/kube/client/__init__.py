"""The Kubernetes API: connecting, reading, writing, logs, and what to do while it does not answer. Open `api.py`
first.
"""
