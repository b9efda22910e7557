"""The lines of a job's own among those that Ray prints around them."""

import re
from collections.abc import Iterable, Iterator

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_RAYS_BEGIN = re.compile(
    r"\s*(-*|Job submission server address: .*|Job '.*' submitted successfully|Next steps"
    r"|Query the (logs|status) of the job:|Request the job to be stopped:|ray job (logs|status|stop) .*"
    r"|Tailing logs until .*|Running entrypoint for job .*"
    r"|\S+ \S+\s+(INFO|WARNING) \w+\.py:\d+ -- .*)"
)
"""Lines of `ray job submit` and of Ray's job manager before a job's first (ray/dashboard/modules/job/cli.py)."""
_RAYS_END = re.compile(r"Job '.*' (succeeded|failed)")
"""Below a ruler. Ray then repeats the end of the log, where the job failed."""


def own_lines(lines: Iterable[str]) -> Iterator[str]:
    """A job's own lines, without Ray's words before and after them and without colours."""
    began, ruler = False, ""
    for line in lines:
        plain = _COLOURS.sub("", line)
        if not began and _RAYS_BEGIN.fullmatch(plain):
            continue
        began = True
        if ruler and _RAYS_END.fullmatch(plain):
            return
        if ruler:
            yield ruler
        ruler = plain if plain and not plain.strip("-") else ""
        if not ruler:
            yield plain
    if ruler:
        yield ruler
