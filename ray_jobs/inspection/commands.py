"""The commands that a person is told to type about the data of a job."""

import shlex

from data_pipeline.config import DataConfig
from ray_jobs.job.config import JobConfig


def inspect_command(job: JobConfig) -> str:
    """Looks at the data."""
    storage = "" if job.storage.root == "outputs" else f" --storage.root {shlex.quote(job.storage.root)}"
    return f"resnet-dist data inspect {shlex.quote(job.data.root)}{_labels('--data.labels', job.data)}{storage}"


def split_command(data: DataConfig) -> str:
    """Puts copies on one side."""
    labels = _labels("--labels", data)
    return f"resnet-dist data split {shlex.quote(data.root)}{labels} --groups duplicates --output split.csv"


def predictions_command(job: JobConfig) -> str:
    """Ranks labels by models that were not trained on the images."""
    root, labels = shlex.quote(job.data.root), _labels("--data.labels", job.data)
    return (
        f"resnet-dist train {root}{labels} --data.folds 5 --name NAME, then "
        f"resnet-dist data inspect {root}{labels} --predictions NAME"
    )


def _labels(flag: str, data: DataConfig) -> str:
    return f" {flag} {shlex.quote(data.labels)}" if data.labels else ""
