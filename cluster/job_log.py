"""The lines of a job's own among those that Ray prints around them."""

import re
from collections.abc import Iterable, Iterator

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_RAYS_BEGIN = re.compile(
    r"\s*(-*|Job submission server address: .*|Job '.*' submitted successfully|Next steps"
    r"|Query the (logs|status) of the job:|Request the job to be stopped:|ray job (logs|status|stop) .*"
    r"|Tailing logs until .*|Running entrypoint for job .*"
    r"|\S+ \S+\s+(INFO|WARNING) \w+\.py:\d+ -- .*|\[\d{4}-\S+ \S+ [A-Z] \d+ \d+\] .*)"
)
"""Lines of `ray job submit` and of Ray's job manager before a job's first (ray/dashboard/modules/job/cli.py)."""
_TRACEBACK = "Traceback (most recent call last):"
_BETWEEN = re.compile(r"During handling of the above .*:|The above exception was the direct cause .*:")
"""Lines between two tracebacks that belong together."""
_RAYS_END = re.compile(r"Job '.*' (succeeded|failed)")
"""Below a ruler. Ray then repeats the end of the log, where the job failed."""


def own_lines(lines: Iterable[str]) -> Iterator[str]:
    """A job's own lines, without Ray's words before and after them and without colours."""
    ruler = ""
    for line in _from_the_first(_COLOURS.sub("", line) for line in lines):
        if ruler and _RAYS_END.fullmatch(line):
            return
        if ruler:
            yield ruler
        ruler = line if line and not line.strip("-") else ""
        if not ruler:
            yield line
    if ruler:
        yield ruler


def _from_the_first(lines: Iterable[str]) -> Iterator[str]:
    """A job's lines from its first one on.

    While Ray's head starts, `ray health-check` prints tracebacks. A traceback is Ray's if another line of Ray follows.
    """
    began, tracebacks, in_traceback = False, list[str](), False
    for line in lines:
        if began:
            yield line
        elif line == _TRACEBACK or in_traceback or (tracebacks and _BETWEEN.fullmatch(line)):
            tracebacks.append(line)
            in_traceback = line == _TRACEBACK or (in_traceback and line[:1] in {"", " "})
        elif tracebacks and (_RAYS_END.fullmatch(line) or not line.strip("-")):
            tracebacks.append(line)  # below what may be the job's only words
        elif _RAYS_BEGIN.fullmatch(line):
            tracebacks = []
        else:
            began = True
            yield from tracebacks
            yield line
    if not began:
        yield from tracebacks
