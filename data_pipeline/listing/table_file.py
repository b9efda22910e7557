"""Reads columns of text from a CSV or a Parquet file, with bounds on its size."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.errors import DataError
from data_pipeline.listing.csv_cells import cell_text
from data_pipeline.listing.parquet_file import ParquetRequest, read_parquet

MAX_BYTES = 512 * 2**20
"""Of the file, and of a Parquet file's columns once they are decompressed."""
MAX_ROWS = 20_000_000

_PARQUET = (".parquet", ".pq")


@dataclass(frozen=True)
class Record:
    """One row of a table."""

    place: str
    """Where it stands, for a message: "line 7" of a CSV, "row 6" of a Parquet file; both count from 1."""
    values: dict[str, str]
    """Text by column, of those that were asked for and are there."""


def read_records(path: Path, wanted: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Record]:
    """The rows of `path` with the columns that are `wanted` and those of the `optional` ones that it has.

    A file ending in .parquet or .pq is Parquet, whose columns must be text (numbers and nulls are taken as text, null
    as empty); any other is CSV: RFC 4180 with a header, UTF-8, with or without a byte order mark, and text in its cells
    as `csv_cells` writes it. Raises DataError where it cannot be read, is damaged, too large, or lacks a wanted column.
    """
    check_table(path)
    records = _parquet(path, wanted, optional) if path.suffix.lower() in _PARQUET else _csv(path, wanted, optional)
    for number, record in enumerate(records):
        if number == MAX_ROWS:
            raise DataError(f"{path} has more than {MAX_ROWS} rows; split it up")
        yield record


def check_table(path: Path) -> None:
    """Raise DataError where there is no file that can be read, or one that is too large; reads nothing of it."""
    try:
        size = path.stat().st_size
        is_file = path.is_file()
        if is_file:
            path.open("rb").close()
    except PermissionError as error:
        raise DataError(f"data.labels={path} cannot be read ({error.strerror}); make it readable") from error
    except OSError as error:
        raise DataError(
            f"data.labels={path} cannot be read ({error.strerror}); name a CSV or Parquet file, absolute or relative "
            'to data.root, or set data.labels="" to use class folders'
        ) from error
    if not is_file:
        raise DataError(f"data.labels={path} is no file; name a CSV or Parquet file")
    if size > MAX_BYTES:
        raise DataError(
            f"{path} has {size} bytes, and at most {MAX_BYTES} are read; remove columns that are not needed"
        )


def _csv(path: Path, wanted: Sequence[str], optional: Sequence[str]) -> Iterator[Record]:
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, list[str]())
            columns = columns_of(path, header, wanted, optional)
            line = reader.line_num + 1
            for fields in reader:
                # A field may hold line breaks: a record is said to stand where it begins.
                if fields and len(fields) != len(header):
                    raise DataError(
                        f"{path}: line {line} has {len(fields)} fields, the header {len(header)}; put fields that "
                        "hold a comma into double quotes"
                    )
                if fields:
                    yield Record(f"line {line}", {name: cell_text(fields[place]) for name, place in columns.items()})
                line = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8, at or after line {line} ({error.reason}); save it as UTF-8") from error
    except (csv.Error, OSError) as error:
        raise DataError(f"{path}: line {line} is damaged ({error}); it must be CSV as in RFC 4180") from error


def _parquet(path: Path, wanted: Sequence[str], optional: Sequence[str]) -> Iterator[Record]:
    request = ParquetRequest(str(path), tuple(wanted), tuple(optional), MAX_BYTES, MAX_ROWS)
    for row, values in enumerate(read_parquet(request), start=1):
        yield Record(f"row {row}", values)


def columns_of(
    path: str | Path, header: Sequence[str], wanted: Iterable[str], optional: Iterable[str]
) -> dict[str, int]:
    """Position of each column that is asked for and there. Raises DataError, see `read_records`."""
    there = ", ".join(repr(name) for name in header[:50]) or "none"
    if missing := [name for name in wanted if name not in header]:
        raise DataError(
            f"{path} lacks {'column' if len(missing) == 1 else 'columns'} {', '.join(missing)}; its columns are "
            f"{there}; rename them, and separate them by commas"
        )
    present = [name for name in (*wanted, *optional) if name in header]
    if twice := [name for name in present if header.count(name) > 1]:
        raise DataError(f"{path} has column {twice[0]!r} twice; its columns are {there}; remove one")
    return {name: header.index(name) for name in present}
