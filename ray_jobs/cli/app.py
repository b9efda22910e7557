"""The command line, assembled. Commands import what they run when they run it: help and wrong usage answer at once."""

import sys

from ray_jobs.cli.bundles import benchmark, export, promote, pull
from ray_jobs.cli.completion import completion
from ray_jobs.cli.compress import compress
from ray_jobs.cli.data import data
from ray_jobs.cli.doctor import doctor
from ray_jobs.cli.evaluate import evaluate
from ray_jobs.cli.jobs import jobs
from ray_jobs.cli.predict import predict
from ray_jobs.cli.program import answer, new_app
from ray_jobs.cli.queue import queue
from ray_jobs.cli.runs import runs, searches
from ray_jobs.cli.submit import submit
from ray_jobs.cli.train import train
from ray_jobs.cli.tune import report, tune

app = new_app()
for command in (
    *(data, queue, export, predict, benchmark, promote, pull, submit, jobs),
    *(train, tune, report, evaluate, compress, runs, searches, doctor, completion),
):
    app.command(command)


def main(arguments: list[str] | None = None) -> int:
    """Run a command line (by default the process's own) and return its exit code."""
    return answer(app, list(sys.argv[1:] if arguments is None else arguments))
