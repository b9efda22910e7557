"""Rows of predictions are read by Python and by pandas, whatever images and classes are called."""

import csv
import json
import os
from io import BytesIO, StringIO, TextIOWrapper
from typing import Any

import pandas
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_pipeline.listing.csv_cells import cell_text
from data_pipeline.listing.samples import relative_path_of
from ray_jobs.prediction.rows import row_writer
from resnet_dist.runtime.predictor import Prediction
from tests.laws import examples

# Bytes of file names: also some that are no UTF-8, end a line, or begin a formula.
NAMES = st.binary(min_size=1, max_size=8).filter(lambda name: b"\0" not in name) | st.lists(
    st.sampled_from([b"=", b"'", b"-", b"\r", b"\n", b"\xff", b"\\", b"\\x41", b",", b'"', b"x"]),
    min_size=1,
    max_size=5,
).map(b"".join)


def written(kind: Any, rows: list[tuple[str, Prediction]], classes: tuple[str, ...] = ()) -> bytes:
    """A file of predictions, as the command writes it."""
    stream = BytesIO()
    text = TextIOWrapper(stream, "utf-8", "strict", newline="")
    write = row_writer(kind, classes, bool(classes), text)
    for path, answer in rows:
        write(path, answer)
    text.flush()
    return stream.getvalue()


def answered(names: list[bytes]) -> list[tuple[str, Prediction]]:
    return [(os.fsdecode(name), Prediction("good", 0.5, (0.5, 0.5))) for name in names]


@settings(max_examples=examples(0.5))
@given(st.lists(NAMES, min_size=1, max_size=4))
@example([b"\xff.png"])
@example([b"=cmd|' /C calc'!A0", b"'=1", b"a\rb", b"-1", b"@x"])
def test_every_name_comes_back_from_csv_and_from_json_lines(names: list[bytes]):
    table = written("csv", answered(names))
    read = list(csv.DictReader(StringIO(table.decode(), newline=""), strict=True))
    assert [relative_path_of(cell_text(row["path"])) for row in read] == names
    lines = written("jsonl", answered(names)).decode().splitlines()
    assert [relative_path_of(json.loads(line)["path"]) for line in lines] == names


@settings(max_examples=examples(0.2))
@given(st.lists(NAMES, min_size=1, max_size=4))
@example([b"\xff.png", b"a\rb", b"a\nb"])
def test_pandas_reads_the_same(names: list[bytes]):
    table = pandas.read_csv(BytesIO(written("csv", answered(names))), dtype=str, keep_default_na=False)
    assert [relative_path_of(cell_text(path)) for path in table["path"]] == names
    assert list(table["label"]) == ["good"] * len(names)
    lines = pandas.read_json(BytesIO(written("jsonl", answered(names))), lines=True, dtype=False)
    assert [relative_path_of(path) for path in lines["path"]] == names


@pytest.mark.parametrize("kind", ["csv", "jsonl", "table"])
def test_classes_and_reasons_that_no_file_can_hold_are_written_out(kind: str):
    name = "half \ud800"
    rows = [(name, Prediction(name, 0.5, (0.5, 0.5))), (name, Prediction(None, 0.0, (), name))]
    assert rb"half \ud800" in written(kind, rows, (name, "=x")).replace(rb"\\", b"\\")


def test_a_class_that_is_a_formula_is_none_in_the_file():
    rows = [("=a.png", Prediction("=1+1", 0.5, (0.5, 0.5))), ("b.png", Prediction("-1", 0.5, (0.5, 0.5)))]
    head, first, second = written("csv", rows, ("=1+1", "-1")).decode().splitlines()
    assert head == "path,label,confidence,error,probability_=1+1,probability_-1"
    assert first == "'=a.png,'=1+1,0.500000,,0.500000,0.500000"
    assert second == "b.png,-1,0.500000,,0.500000,0.500000"
