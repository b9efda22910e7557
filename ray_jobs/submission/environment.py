"""Which submission a command belongs to: the environment says so where `resnet-dist submit` started it."""

import os
import re

SUBMISSION, RUN = "RESNET_DIST_SUBMISSION", "RESNET_DIST_RUN"
"""Environment variables: who submitted, and the URI of the run or search that the command writes to."""
_VALID = re.compile(r"[A-Za-z0-9-]{1,64}")


def valid_submission(submission: str) -> bool:
    """Whether it can name a submission: it becomes part of file names."""
    return _VALID.fullmatch(submission) is not None


def this_submission() -> str | None:
    """The submission of this process; None for a command that a person started."""
    found = os.environ.get(SUBMISSION, "")
    return found if valid_submission(found) else None


def is_ray_jobs_address(address: str | None) -> bool:
    """Whether `cluster.address` is a Ray Jobs API, to which commands are handed, and no Ray to connect to."""
    return address is not None and address.startswith(("http://", "https://"))
