"""The Kubernetes manifests that ship: in a checkout its folder k8s, in an installed package a copy of it."""

from pathlib import Path
from typing import cast

import yaml

from cluster.errors import SubmissionError
from cluster.jobs import Verb
from cluster.kube.client.kinds import Object

_PACKAGE = Path(__file__).parents[1]


def manifest_folder() -> Path:
    """The folder with base, jobs, queues and overlays. Raises SubmissionError where it is missing."""
    for folder in (_PACKAGE / "k8s", _PACKAGE.parent / "k8s"):
        if (folder / "jobs").is_dir():
            return folder
    raise SubmissionError(f"the manifests are missing in {_PACKAGE / 'k8s'}; install resnet-dist again")


def load_job(verb: Verb) -> list[Object]:
    """The objects of a job, as they ship: its ConfigMap and its RayJob, each a new copy. Raises SubmissionError."""
    path = manifest_folder() / "jobs" / f"{verb}.yaml"
    try:
        with path.open(encoding="utf-8") as file:
            return [cast("Object", each) for each in yaml.safe_load_all(file)]
    except OSError as error:
        raise SubmissionError(f"{path} cannot be read ({error}); install resnet-dist again") from error
