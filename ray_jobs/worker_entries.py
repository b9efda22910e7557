"""What Ray Train is told to run on workers, as names: only the workers load the modules behind them.

Ray's controller, and the process that starts it, read these functions too, and would load torch for seconds before
the workers so much as start.
"""

from typing import Any


def train_worker(config: dict[str, Any]) -> None:
    """A worker of `resnet-dist train`; `config` holds a reference to its WorkerTask as "task"."""
    from ray_jobs.worker import train  # noqa: PLC0415

    train(config["task"])


def serve_worker(config: dict[str, Any]) -> None:
    """A worker of a search's slot: `config` holds a reference to the Slot, and the numbers of slot and worker group."""
    from ray_jobs.search.serving import serve_trials  # noqa: PLC0415

    serve_trials(config["slot"], config["number"], config["group"])
