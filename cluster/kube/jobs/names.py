"""Names of Kubernetes objects, made of the names that people give."""

import hashlib
import re

from cluster.errors import SubmissionError

MOST_LETTERS = 47
"""KubeRay adds to a RayJob's name what its clusters, pods and services are called; more would not fit."""
_LABEL = r"[a-z]([a-z0-9-]*[a-z0-9])?"


def job_name(name: str, verb: str) -> str:
    """The RayJob's name for a run or search: <name> for train and tune, <name>-<verb> for what works on a run.

    A name that cannot stand as it is gets a part of its hash, so that two names never meet in one.
    """
    wanted = name if verb in {"train", "tune"} else f"{name}-{verb}"
    if len(wanted) <= MOST_LETTERS and re.fullmatch(_LABEL, wanted):
        return wanted
    mark = hashlib.sha256(wanted.encode()).hexdigest()[:8]
    cleaned = re.sub(r"[^a-z0-9]+", "-", wanted.lower()).strip("-")
    cleaned = cleaned if cleaned[:1].isalpha() else f"job-{cleaned}".rstrip("-")
    return f"{cleaned[: MOST_LETTERS - 9].rstrip('-')}-{mark}"


def check_label(value: str, flag: str) -> str:
    """A name of a namespace, queue or class as it was given. Raises SubmissionError for one that cannot be."""
    if len(value) > 63 or not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", value):
        raise SubmissionError(
            f"{flag} {value!r} must be 1 to 63 small letters, digits and '-', with neither end a '-'; see "
            "`resnet-dist queue show` for those there are"
        )
    return value


def check_image(value: str) -> str:
    """An image as it was given. Raises SubmissionError for one that is no reference, or says nothing of its version."""
    reference = r"[a-z0-9]+([._:/-]+[a-zA-Z0-9_]+)*(@sha256:[0-9a-f]{64})?"
    if len(value) > 512 or not re.fullmatch(reference, value):
        raise SubmissionError(f"--image {value!r} is no image; write NAME:VERSION or NAME@sha256:DIGEST")
    last = value.rpartition("/")[2]
    if "@" not in last and (":" not in last or last.endswith(":latest")):
        raise SubmissionError(
            f"--image {value} may be another image tomorrow, and a retry would run other code; name a version "
            "(NAME:0.2.0-gpu) or a digest (NAME@sha256:...)"
        )
    return value
