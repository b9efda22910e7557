"""An output file is there whole or not at all, also where its storage is away for a while."""

import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from cluster.config import StorageConfig
from cluster.errors import StorageError, StorageOutageError
from cluster.storage.outage import Patience
from ray_jobs.prediction.predict import PredictOptions
from ray_jobs.terminal.output_file import output_file


def test_what_was_written_takes_its_place_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("before")
    with output_file(path) as stream:
        stream.write(b"path,label\n")
        assert path.read_text() == "before"
    assert path.read_bytes() == b"path,label\n"
    with suppress(KeyboardInterrupt), output_file(path) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"path,label\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent" / "out.csv", Path("/proc/out.csv")):
        with pytest.raises(StorageError, match="--output"), output_file(path):
            pytest.fail("it was to be refused")


def test_storage_that_is_away_at_the_end_is_waited_for(tmp_path: Path) -> None:
    folder, away, said = tmp_path / "mounted", tmp_path / "away", list[str]()
    folder.mkdir()
    is_away = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        is_away.set()

    def come_back() -> None:
        is_away.wait(60)
        away.rename(folder)

    thread = threading.Thread(target=come_back)
    thread.start()
    with output_file(folder / "out.csv", Patience(60.0, say)) as stream:
        stream.write(b"rows")
        folder.rename(away)
    thread.join()
    assert (folder / "out.csv").read_bytes() == b"rows"
    assert "storage is away" in said[0]
    assert "is not there; mount it" in said[0]
    assert "there again" in said[-1]


def test_storage_that_stays_away_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    with ExitStack() as stack:
        stack.enter_context(output_file(folder / "out.csv", Patience(0.2, lambda _: None))).write(b"rows")
        folder.rename(tmp_path / "away")
        with pytest.raises(StorageOutageError, match="mount it, or move it back"):
            stack.close()


def test_the_default_is_that_of_jobs() -> None:
    assert PredictOptions().outage_s == StorageConfig().outage_s
