"""`make demo`: train and judge on a folder, then say in a few lines what came of it and what to type next."""

import sys
from pathlib import Path
from time import monotonic

from ray_jobs import api
from ray_jobs.cli.show import show_demo
from ray_jobs.exit_codes import explain
from ray_jobs.job.toml import read_job
from ray_jobs.terminal.console import show_line
from ray_jobs.terminal.end_signals import ends_on_signals
from ray_jobs.terminal.watcher import watched

JOB = Path(__file__).parents[2] / "examples" / "demo.toml"


def main(data: str, storage: str, *flags: str) -> int:
    """Run the demo's job on an ImageFolder; returns the exit code. `flags`: --debug shows where an error comes from."""
    try:
        start = monotonic()
        place = {"data": {"root": data}, "storage": {"root": storage}}
        with watched(), ends_on_signals():
            outcome = api.train(read_job(JOB, place))
            changes = {"cluster": {"num_workers": 2, "local_cpus": 2}, "storage": {"root": storage}}
            evaluation = api.evaluate(outcome.run, changes=changes)
        show_demo(outcome, evaluation, monotonic() - start)
    except (Exception, KeyboardInterrupt) as error:
        return explain(error, debug="--debug" in flags)
    if outcome.already_finished:
        show_line(f"(the run was finished before; remove {outcome.run} to train it again)")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
