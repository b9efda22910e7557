"""Commands that run elsewhere. A SubmitCommand becomes a JobRequest, on Kubernetes also a PoolPlan and its objects;
`submit.py` applies it, `watch.py` follows the job, `entrypoint.py` is what the cluster starts and
`attempts.py` how it runs the command. Open `submit.py` first.
"""
