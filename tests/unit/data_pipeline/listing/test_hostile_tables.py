"""Whatever a labels file or split.csv holds, it is read or refused with a DataError."""

import csv
import io
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from data_pipeline.errors import DataError
from data_pipeline.listing.label_table import label_rows
from data_pipeline.listing.parquet_child import answers
from data_pipeline.listing.parquet_file import ParquetRequest, rows_of
from data_pipeline.splits.assign import SplitRow, read_split_csv, write_split_csv
from tests.fuzzing import cases, damaged, fuzz

pa: Any = pyarrow  # untyped
pq: Any = pyarrow.parquet
ROOT = Path(__file__).parents[4]
ROWS = [
    (
        f"deep/{row}.png",
        ("good", "dent", "é, ü")[row % 3],
        ("train", "val", "test")[row % 3],
        f"g{row // 3 * 3 + row % 3}",
    )
    for row in range(12)
]
COLUMNS = ("path", "label", "split", "group")
WORDS = tuple(
    word.encode()
    for word in (
        *(",", '"', '""', "\n", "\r", "\r\n", "\0", "\ufeff", "\u202e", "'", "=1+1", "'=1", "\t", ";", "path", "label"),
        *(
            "split",
            "fold",
            "..",
            "../x",
            "/etc/passwd",
            ".",
            "",
            "a//b",
            "\\",
            "C:\\x",
            "x" * 5000,
            "train",
            "TRAIN",
            " ",
        ),
        *("1", "-1", "9" * 5000, "1e999", "\ud7ff", "\u2028", "\x1b[31m", '"' * 1001, ",," * 500, "\n" * 1000),
    )
)


def test_csv_is_read_or_refused(tmp_path: Path):
    text = io.StringIO(newline="")
    csv.writer(text).writerows([COLUMNS, *ROWS])
    table, whole = tmp_path / "labels.csv", text.getvalue().encode()

    def read(data: bytes) -> None:
        table.write_bytes(data)
        label_rows(table, folds=3)

    numbers = cases(200, 15_000)
    assert fuzz("labels", numbers, lambda chance: damaged(chance, whole, WORDS, most=3), read, DataError) > 0


def test_split_csv_is_read_or_refused():
    rows = [SplitRow(path, split, label, group, number % 3) for number, (path, label, split, group) in enumerate(ROWS)]
    whole = write_split_csv(rows).encode()

    def make(chance: random.Random) -> str:
        return damaged(chance, whole, WORDS, most=3).decode("utf-8", "replace")

    assert fuzz("split.csv", cases(200, 10_000), make, read_split_csv, DataError) > 0


def parquet_file(chance: random.Random) -> bytes:
    """A damaged Parquet file, of one of the ways to write it."""
    columns: dict[str, Any] = dict(zip(COLUMNS, zip(*ROWS, strict=True), strict=True))
    kinds = [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string()), pa.binary(), pa.list_(pa.string())]
    kind = chance.choice(kinds)
    columns["group"] = pa.array(
        [[text] for text in columns["group"]] if pa.types.is_list(kind) else columns["group"], kind
    )
    columns["fold"] = chance.choice([list(range(12)), [None] * 12, [0.5] * 12, ["1"] * 12])
    file = io.BytesIO()
    pq.write_table(
        pa.table(columns),
        file,
        compression=chance.choice(["none", "snappy", "gzip", "zstd"]),
        use_dictionary=chance.random() < 0.5,
        data_page_version=chance.choice(["1.0", "2.0"]),
        row_group_size=chance.choice([3, 12]),
        store_schema=chance.random() < 0.5,
    )
    return damaged(chance, file.getvalue(), most=2)


def read_parquet_cases(first: int, last: int, place: str) -> None:
    """Reads the cases as the child of a labels file does; prints the number of each before it is read."""

    def read(data: bytes) -> None:
        Path(place).write_bytes(data)
        for _ in rows_of(answers(ParquetRequest(place, ("path", "label"), ("split", "group", "fold"), 2**29, 10**6))):
            pass

    for number in range(first, last):
        print(number, flush=True)
        fuzz("parquet", range(number, number + 1), parquet_file, read, DataError)


def test_parquet_is_read_or_refused_or_ends_the_child(tmp_path: Path):
    """A process reads the cases; where Arrow ends it, the next one goes on behind the case, which is read once more as
    labels are read."""
    numbers, place = cases(150, 10_000), tmp_path / "labels.parquet"
    module = "from tests.unit.data_pipeline.listing.test_hostile_tables import read_parquet_cases"
    first, ended = numbers.start, list[int]()
    while first < numbers.stop:
        code = f"{module}\nread_parquet_cases({first}, {numbers.stop}, {str(place)!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=800)
        assert done.returncode <= 0, done.stderr[-3000:]
        first = int(done.stdout.splitlines()[-1]) + 1
        if done.returncode < 0:
            ended.append(first - 1)
    for number in ended[:5]:
        place.write_bytes(parquet_file(random.Random(f"parquet {number}")))
        with pytest.raises(DataError, match=r"labels.parquet is no whole Parquet file"):
            label_rows(place, folds=3)
    print(f"{len(numbers)} files, {len(ended)} of which ended their reader")
