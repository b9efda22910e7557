"""How a job's name and attempt make the id under which a Ray knows it."""

import re

from cluster.errors import SubmissionError

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


def check_name(name: str) -> None:
    """Raise SubmissionError unless a name fits an id, which is part of URLs and of a file's name."""
    if not _NAME.fullmatch(name):
        raise SubmissionError(
            f"name={name!r} must be 1 to 128 letters, digits, '.', '_' or '-' and not begin with a dot; choose another "
            "--name"
        )


def submission_id(name: str, attempt: int) -> str:
    """Ray takes each id once, so that it refuses the second submission of an attempt."""
    return f"{name}-{attempt}"


def attempt_of(name: str, identifier: str) -> int | None:
    """Which attempt of a job an id stands for; None where it is not one of that job."""
    before, _, number = identifier.rpartition("-")
    is_number = number.isascii() and number.isdigit() and not number.startswith("0")
    return int(number) if before == name and is_number else None
