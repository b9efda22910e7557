import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.storage.room import bytes_below


def test_files_in_all_folders_below_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"1234")
    (tmp_path / "a" / "b" / "two").write_bytes(b"12")
    assert bytes_below(tmp_path) == 6
    assert bytes_below(tmp_path / "absent") == 0


def test_what_another_process_removes_meanwhile_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gone", "kept"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"1234")

    def walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
        for found in list(original(folder)):
            shutil.rmtree(tmp_path / "gone", ignore_errors=True)
            yield found

    original = os.walk
    monkeypatch.setattr(os, "walk", walk)
    assert bytes_below(tmp_path) == 4
