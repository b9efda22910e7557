"""Which submission this process belongs to, and which addresses take jobs over HTTP."""

import os
import re

from cluster.jobs import SUBMISSION

_VALID = re.compile(r"[A-Za-z0-9-]{1,64}")


def valid_submission(submission: str) -> bool:
    """Whether it can name a submission: it becomes part of file names."""
    return _VALID.fullmatch(submission) is not None


def this_submission() -> str | None:
    """The submission of this process; None for a command that a person started."""
    found = os.environ.get(SUBMISSION, "")
    return found if valid_submission(found) else None


def is_ray_jobs_address(address: str | None) -> bool:
    """Whether `cluster.address` is a Ray Jobs API, which takes whole commands, rather than a Ray to connect to."""
    return address is not None and address.startswith(("http://", "https://"))
