"""The process that reads a Parquet file for `parquet_file.py`. It alone loads Arrow, and may be ended by it.

Its argument is a ParquetRequest in JSON. It writes lines of JSON: for some rows an object with the different texts and
each row's place among them, by column; last {"end": true}, or {"error": what is wrong}.
"""

# pyarrow brings no types.
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow
import pyarrow.parquet

from data_pipeline.errors import DataError
from data_pipeline.listing.parquet_file import ParquetRequest
from data_pipeline.listing.table_file import columns_of

MOST_MEMORY = 4 * 2**30
"""Of address space: a few times what columns may take."""
MOST_CPU_S = 1800
_BATCH_ROWS = 65_536

pa: Any = pyarrow
pq: Any = pyarrow.parquet


def main() -> None:
    """Answer the request of the command line."""
    _bound()
    request = json.loads(sys.argv[1])
    for line in answers(ParquetRequest(**request)):
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


def answers(request: ParquetRequest) -> Iterator[bytes]:
    """The lines of the answer."""
    try:
        for columns in _batches(request):
            yield _line(columns)
        yield _line({"end": True})
    except DataError as error:
        yield _line({"error": str(error)})


def _line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _bound() -> None:
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ImportError:
        return
    for kind, most in ((resource.RLIMIT_AS, MOST_MEMORY), (resource.RLIMIT_CPU, MOST_CPU_S), (resource.RLIMIT_CORE, 0)):
        soft, hard = resource.getrlimit(kind)
        bounds = [most, *(each for each in (soft, hard) if each != resource.RLIM_INFINITY)]
        resource.setrlimit(kind, (min(bounds), hard))


def _batches(request: ParquetRequest) -> Iterator[dict[str, tuple[list[str], list[int]]]]:
    """Different texts and the rows' places among them, by column. Raises DataError."""
    path = request.path
    try:
        with pq.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            columns = list(columns_of(path, names, request.wanted, request.optional))
            _refuse_large(request, file.metadata, columns)
            _refuse_nested(path, file.schema_arrow, columns)
            _refuse_prefixes(path, file.metadata, columns)
            metadata = file.metadata
        # Text is read as a dictionary, which is how Parquet stores it: repeated, a long one would fill the memory.
        with pq.ParquetFile(path, metadata=metadata, read_dictionary=columns) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns, use_threads=False):
                batch.validate(full=True)
                yield {name: _texts(batch.column(name)) for name in columns}
    except MemoryError as error:
        raise DataError(
            f"{path} takes more than {MOST_MEMORY // 2**30} GiB to read; split it up, or use CSV"
        ) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as damage:
        error: Exception = damage
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path} is no whole Parquet file ({reason}); write it again, or use CSV") from error


def _texts(column: Any) -> tuple[list[str], list[int]]:
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    words = ["" if value is None else value for value in column.dictionary.to_pylist()]
    # The place of a null is that of an empty text behind all others.
    places = [len(words) if place is None else place for place in column.indices.to_pylist()]
    return [*words, ""], places


def _refuse_large(request: ParquetRequest, metadata: Any, columns: Sequence[str]) -> None:
    size = 0
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            column = metadata.row_group(group).column(place)
            size += column.total_uncompressed_size if column.path_in_schema in columns else 0
    if size > request.most_bytes or metadata.num_rows > request.most_rows:
        raise DataError(
            f"{request.path} holds {metadata.num_rows} rows and {size} bytes of {', '.join(columns)}; at most "
            f"{request.most_rows} rows and {request.most_bytes} bytes are read, split it up"
        )


def _refuse_prefixes(path: str, metadata: Any, columns: Sequence[str]) -> None:
    """A text that shares its beginning with the one before takes few bytes in the file, whatever it takes here."""
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            column = metadata.row_group(group).column(place)
            found = [name for name in column.encodings if name.startswith("DELTA_") and name.endswith("BYTE_ARRAY")]
            if found and column.path_in_schema in columns:
                raise DataError(
                    f"{path}: column {column.path_in_schema} is encoded as {found[0]}, which is not read; write it "
                    "plain or with a dictionary, which is what most programs do, or use CSV"
                )


def _refuse_nested(path: str, schema: Any, columns: Sequence[str]) -> None:
    for name in columns:
        kind = str(schema.field(name).type)
        is_text = kind in {"string", "large_string", "string_view", "null"} or kind.startswith(("int", "uint"))
        if not is_text and not kind.startswith(("dictionary<values=string", "dictionary<values=large_string")):
            raise DataError(f"{path}: column {name} holds {kind}; it must hold text")


if __name__ == "__main__":
    main()
