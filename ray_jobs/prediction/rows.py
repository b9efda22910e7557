"""Predictions as text: CSV, JSON lines, or a table for people. Rows are written one by one, and none is kept.

CSV and JSON lines are UTF-8 whatever a file is called, and CSV is safe to open in a spreadsheet.
"""

import csv
import json
import os
from collections.abc import Callable, Iterable
from io import StringIO
from typing import Literal, TextIO, assert_never

from data_pipeline.listing.csv_cells import safe_cell
from data_pipeline.listing.samples import sample_id_of
from resnet_dist.runtime.predictor import Prediction

OutputFormat = Literal["csv", "jsonl", "table"]
COLUMNS = ("path", "label", "confidence", "error")
_DIGITS = 6

WriteRow = Callable[[str, Prediction], None]


def row_writer(kind: OutputFormat, classes: tuple[str, ...], probabilities: bool, stream: TextIO) -> WriteRow:
    """Writes the head, if any, and returns what writes the row of an image's path and answer."""
    match kind:
        case "csv":
            return _csv(classes if probabilities else (), stream)
        case "jsonl":
            return _jsonl(classes if probabilities else (), stream)
        case "table":
            return _table(classes, probabilities, stream)
        case _:
            assert_never(kind)


def path_text(path: str) -> str:
    r"""A path as sample ids are written: a byte that is not UTF-8 as \xNN, a backslash that is no separator doubled."""
    try:
        return _utf8(path) if os.sep == "\\" else sample_id_of(path.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:  # half a surrogate pair, as no file is called
        return _utf8(path)


def printable(text: str) -> str:
    """The text with what would move a terminal's cursor, or is no letter at all, written out."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "backslashreplace").decode()
        for letter in text
    )


def _csv(classes: tuple[str, ...], stream: TextIO) -> WriteRow:
    # A class may be named like a column.
    stream.write(_csv_line([*COLUMNS, *(f"probability_{name}" for name in classes)]))

    def write(path: str, answer: Prediction) -> None:
        found = [f"{each:.{_DIGITS}f}" for each in answer.probabilities] or [""] * len(classes)
        confidence = "" if answer.error is not None else f"{answer.confidence:.{_DIGITS}f}"
        known = [path_text(path), answer.label or "", confidence, answer.error or ""]
        stream.write(_csv_line([*known, *(found if classes else ())]))

    return write


def _utf8(text: str) -> str:
    """The text with what UTF-8 cannot hold written out."""
    return text.encode("utf-8", "backslashreplace").decode()


def _csv_line(cells: Iterable[str]) -> str:
    """Python quotes what ends lines only where it ends them with it, so its own line ends are replaced."""
    line = StringIO(newline="")
    csv.writer(line).writerow([safe_cell(_utf8(cell)) for cell in cells])
    return line.getvalue().removesuffix("\r\n") + "\n"


def _jsonl(classes: tuple[str, ...], stream: TextIO) -> WriteRow:
    names = [_utf8(name) for name in classes]

    def write(path: str, answer: Prediction) -> None:
        is_read = answer.error is None
        row: dict[str, object] = {
            "path": path_text(path),
            "label": None if answer.label is None else _utf8(answer.label),
            "confidence": round(answer.confidence, _DIGITS) if is_read else None,
            "error": None if answer.error is None else _utf8(answer.error),
        }
        if classes:
            found = [round(each, _DIGITS) for each in answer.probabilities]
            row["probabilities"] = dict(zip(names, found, strict=True)) if is_read else None
        stream.write(json.dumps(row, allow_nan=False) + "\n")

    return write


def _table(classes: tuple[str, ...], probabilities: bool, stream: TextIO) -> WriteRow:
    """The path comes last, so that its length need not be known before."""
    shown = [printable(name) for name in classes]
    wide = max(len(name) for name in (*shown, "(unreadable)"))
    more = [(name, max(len(name), _DIGITS)) for name in shown] if probabilities else []
    head = "".join(f"{name:>{width}}  " for name, width in more)
    stream.write(f"{'label':{wide}}  confidence  {head}path\n")

    def write(path: str, answer: Prediction) -> None:
        label = "(unreadable)" if answer.error is not None else printable(answer.label or "(rejected)")
        confidence = "" if answer.error is not None else f"{answer.confidence:.4f}"
        values = [f"{each:.4f}" for each in answer.probabilities] or [""] * len(more)
        cells = "".join(f"{value:>{width}}  " for value, (_, width) in zip(values, more, strict=False))
        reason = f": {printable(answer.error)}" if answer.error is not None else ""
        stream.write(f"{label:{wide}}  {confidence:>10}  {cells}{printable(path)}{reason}\n")

    return write
