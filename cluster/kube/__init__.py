"""Kubernetes: `client` speaks to the API server, `queues` shares a pool between teams, `jobs` runs RayJobs. Open
`jobs/target.py` first.
"""
