"""Columns of text from a Parquet file, read by a process of its own.

A damaged byte can make Arrow end its process with an abort, or ask for any amount of memory or time. The child,
`parquet_child.py`, has bounds of both; what it reads comes back as lines of JSON.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from typing import IO, Any, cast

from data_pipeline.errors import DataError

LONGEST_WAIT_S = 300.0
"""For what the child says next."""
_LONGEST_END_S = 30.0
_CHILD = "data_pipeline.listing.parquet_child"
_PACKAGES = Path(__file__).parents[2]


@dataclass(frozen=True)
class ParquetRequest:
    """What the child is to read."""

    path: str
    wanted: tuple[str, ...]
    """Columns that must be there."""
    optional: tuple[str, ...]
    """Columns that are read where they are there."""
    most_bytes: int
    """Of the columns once they are decompressed."""
    most_rows: int


def read_parquet(request: ParquetRequest) -> Iterator[dict[str, str]]:
    """Each row's text by column, in order. Raises DataError where the file cannot be read within bounds."""
    if find_spec("pyarrow") is None:
        raise DataError(f"{request.path} is Parquet, which needs pyarrow; pip install 'resnet-dist[train]', or use CSV")
    with _child(request) as (process, lines):
        ended = yield from rows_of(lines)
    if not ended:
        code = process.returncode
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise DataError(
            f"{request.path} is no whole Parquet file (reading it ended with {how}); write it again, or use CSV"
        )


def rows_of(lines: Iterable[bytes]) -> Generator[dict[str, str], None, bool]:
    """The rows that the child's lines hold; returns whether it came to the end. Raises DataError where a line says why
    it did not."""
    for line in lines:
        try:
            said = cast("dict[str, Any]", json.loads(line))
        except ValueError:  # it ended within the line
            return False
        if "error" in said:
            raise DataError(said["error"])
        if "end" in said:
            return True
        names: list[str] = list(said)
        columns = [[words[place] for place in places] for words, places in said.values()]
        for values in zip(*columns, strict=True):
            yield dict(zip(names, values, strict=True))
    return False


@contextmanager
def _child(request: ParquetRequest) -> Generator[tuple[subprocess.Popen[bytes], Iterator[bytes]]]:
    """The child and its lines; it has ended behind the block."""
    paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Arrow's own pools take more address space than they use.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "ARROW_DEFAULT_MEMORY_POOL": "system"}
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-m", _CHILD, json.dumps(asdict(request))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    output = cast("IO[bytes]", process.stdout)
    try:
        yield process, _lines(process, output)
    except BaseException:
        process.kill()
        raise
    finally:
        output.close()
        try:
            process.wait(_LONGEST_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _lines(process: subprocess.Popen[bytes], output: IO[bytes]) -> Iterator[bytes]:
    while True:
        # The child waits where nobody reads on, so only the wait for it is bounded.
        timer = Timer(LONGEST_WAIT_S, process.kill)
        timer.daemon = True
        timer.start()
        try:
            line = output.readline()
        finally:
            timer.cancel()
        if not line:
            return
        yield line
