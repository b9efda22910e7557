"""What a submitted command printed is stored with its end, bounded, and an attempt never replaces another's."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.storage.store import Store
from ray_jobs.run.driver_log import DriverBegin, DriverLog, read_begin, read_end, read_log
from tests.laws import examples


def test_a_log_and_its_end_can_be_read_by_anybody(tmp_path: Path) -> None:
    run = Store.open(str(tmp_path / "run"))
    assert read_end(run, "abc-1") is None
    assert read_log(run, "abc-1") == ""
    log = DriverLog.begin(run, "abc-1", "train")
    log.add(b"epoch 1\n")
    log.store(log.text())
    assert read_log(run, "abc-1") == "epoch 1\n"
    log.add("error: ä\n\n".encode())
    log.end(2)
    end = read_end(run, "abc-1")
    assert end is not None
    assert (end.verb, end.attempt, end.exit_code, end.last_line) == ("train", 1, 2, "error: ä")
    assert read_end(run, "abc-2") is None
    following = log.of_next_attempt("export")
    assert (following.attempt, following.text()) == (2, b"")
    assert read_begin(run, "abc-1") is None
    following.begun(1, 4)
    assert read_begin(run, "abc-1") == DriverBegin("export", 2, 1, 4)


def test_an_attempt_that_printed_nothing_has_a_number_too(tmp_path: Path) -> None:
    run = Store.open(str(tmp_path / "run"))
    DriverLog.begin(run, "abc", "train").end(137)
    assert DriverLog.begin(run, "abc", "train").attempt == 2


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        ("epoch 1\nerror: a is missing;\n       give another\n", "error: a is missing; give another"),
        ("error: a\nerror: b\n", "error: b"),
        ("error: a\nepoch 1\n", "epoch 1"),
        ("", ""),
    ],
)
def test_an_error_is_kept_with_all_its_lines(tmp_path: Path, printed: str, words: str) -> None:
    run = Store.open(str(tmp_path / "run"))
    log = DriverLog.begin(run, "abc", "train")
    log.add(printed.encode())
    log.end(3)
    end = read_end(run, "abc")
    assert end is not None
    assert end.last_line == words


def test_attempts_keep_their_logs_and_the_newest_is_read(tmp_path: Path) -> None:
    run = Store.open(str(tmp_path / "run"))
    for attempt in range(1, 12):
        log = DriverLog.begin(run, "abc", "train")
        assert log.attempt == attempt
        log.add(b"%d\n" % attempt)
        log.end(1)
    assert read_log(run, "abc") == "11\n"
    assert len(run.list("logs")) == 12


WHOLE = {"verb": "train", "attempt": 1, "exit_code": 2, "ended": "", "last_line": ""}


@pytest.mark.parametrize(
    "content",
    [
        *(b'{"verb": "train"', b"[]", b"3", b"[" * 60_000, b'{"a":' * 12_000),
        *(json.dumps(WHOLE | {"exit_code": code}).encode() for code in (None, [], "two", 1e999)),
    ],
)
def test_a_damaged_record_is_none(tmp_path: Path, content: bytes) -> None:
    run = Store.open(str(tmp_path / "run"))
    run.write("logs/driver-abc.json", json.dumps(WHOLE).encode())
    assert read_end(run, "abc") is not None
    run.write("logs/driver-abc.json", content)
    assert read_end(run, "abc") is None
    run.write("logs/driver-abc-begun.json", content)
    assert read_begin(run, "abc") is None


@settings(max_examples=examples(0.2))
@given(st.lists(st.integers(1, 900_000), min_size=1, max_size=12))
def test_a_long_log_keeps_its_begin_and_its_end(sizes: list[int]) -> None:
    # No fixture: hypothesis calls this often, and nothing is written before `store`.
    log = DriverLog(Store.open(f"{tempfile.gettempdir()}/no-run-is-here"), "abc", "train", 1)
    whole = b"".join(bytes([65 + place % 26]) * size for place, size in enumerate(sizes))
    place = 0
    for size in sizes:
        log.add(whole[place : place + size])
        place += size
    text = log.text()
    assert len(text) < 2_500_000
    assert text.startswith(whole[:200_000])
    assert text.endswith(whole[-200_000:])
    assert (text == whole) == (b"bytes left out" not in text)
