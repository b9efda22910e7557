"""What is run, and the command line: the composition root. Open `cli/app.py` first, or `api.py` for the functions."""

# Pods of jobs that release 0.1 submitted start `python -m ray_jobs.submitted`, which is found in deprecated/.
__path__.append(f"{__path__[0]}/deprecated")
