"""Whatever a Parquet file does to its reader, it does to a process of its own."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pyarrow
import pyarrow.parquet
import pytest

from data_pipeline.errors import DataError
from data_pipeline.listing import parquet_file
from data_pipeline.listing.parquet_file import ParquetRequest, read_parquet, rows_of
from data_pipeline.listing.table_file import read_records
from tests.complaints import complains

pa: Any = pyarrow  # untyped
pq: Any = pyarrow.parquet


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three batches of rows, with a null, a number and text of every kind."""
    count = 150_000
    columns = {
        "path": [f"{row}.png" for row in range(count)],
        "label": ["é", None, '"\n\t\x7f'] * (count // 3),
        "group": list(range(count)),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def children() -> list[psutil.Process]:
    """Processes that this one has started to read a file, and that are there."""
    return [each for each in psutil.Process().children() if "data_pipeline.listing.parquet_child" in each.cmdline()]


def test_rows_come_back_in_order_and_the_child_ends(table: Path):
    records = list(read_records(table, ("path", "label"), ("group", "fold")))
    assert [record.place for record in records] == [f"row {row}" for row in range(1, 150_001)]
    assert [list(record.values.values()) for record in records[-3:]] == [
        ["149997.png", "é", "149997"],
        ["149998.png", "", "149998"],
        ["149999.png", '"\n\t\x7f', "149999"],
    ]
    assert not children()


def test_who_stops_reading_ends_the_child(table: Path):
    rows = read_parquet(ParquetRequest(str(table), ("path",), (), 2**29, 10**6))
    assert next(rows) == {"path": "0.png"}
    assert children()
    rows.close()
    assert not children()


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("os.abort()", "SIGABRT"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("sys.exit(3)", "exit code 3"),
        ("print('[[[['); sys.exit(0)", "exit code 0"),
        ("print('{}'); sys.exit(0)", "exit code 0"),
    ],
)
def test_a_child_that_does_not_come_to_its_end_is_a_damaged_file(
    code: str, how: str, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The child is another program here, which ends as Arrow ends it."""
    (tmp_path / "ends_badly.py").write_text(f"import os, signal, sys\n{code}\n")
    monkeypatch.setattr(parquet_file, "_CHILD", "ends_badly")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DataError) as refused:
        list(read_records(table, ("path", "label")))
    complains(refused, "t.parquet", how, remedy="write")


def test_a_child_that_says_nothing_is_ended(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "waits.py").write_text("import time\ntime.sleep(1000)\n")
    monkeypatch.setattr(parquet_file, "_CHILD", "waits")
    monkeypatch.setattr(parquet_file, "LONGEST_WAIT_S", 0.1)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DataError, match="SIGKILL"):
        list(read_records(table, ("path", "label")))


def test_memory_of_the_child_is_bounded(table: Path, tmp_path: Path):
    """As the child bounds it itself; then with less than a text of 64 MiB takes, which few bytes of a file hold."""
    pq.write_table(pa.table({"path": ["x" * 2**26]}), tmp_path / "bomb.parquet")
    assert (tmp_path / "bomb.parquet").stat().st_size < 2**23
    code = """
import resource, sys
from data_pipeline.listing import parquet_child as child
from data_pipeline.listing.parquet_file import ParquetRequest
def answers(path):
    return b"".join(child.answers(ParquetRequest(path, ("path",), (), 2**29, 10**6))).decode()
child._bound()
print(resource.getrlimit(resource.RLIMIT_AS)[0], resource.getrlimit(resource.RLIMIT_CPU)[0])
answers(sys.argv[1])  # starts Arrow's threads
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 2**25,) * 2)
print(answers(sys.argv[2]), end="")
"""
    command = [sys.executable, "-c", code, str(table), str(tmp_path / "bomb.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    limits, *lines = done.stdout.splitlines()
    assert limits == f"{4 * 2**30} 1800"
    with pytest.raises(DataError, match=r"bomb.parquet takes more than 4 GiB to read"):
        list(rows_of(line.encode() for line in lines))
