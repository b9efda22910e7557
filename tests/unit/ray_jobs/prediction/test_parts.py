"""Parts: the list is fixed once, another one is refused with the difference, and what is complete is kept."""

import json
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import StorageError
from cluster.storage.store import Store
from data_pipeline.errors import DataError
from ray_jobs.prediction.parts import PartFolder
from ray_jobs.prediction.predict import PredictOptions
from ray_jobs.prediction.tally import Tally
from ray_jobs.prediction.worker import PartWorker, WorkerOrder
from resnet_dist.runtime.bundle import Bundle
from tests.outages import moved_away

HOW = {"bundle": "abc", "format": "onnx"}
names = st.text(st.characters(exclude_categories=()), min_size=1, max_size=4)


def claim(folder: Path, paths: list[str], size: int = 3, how: dict[str, str] = HOW) -> PartFolder:
    return PartFolder.claim(Store.open(str(folder)), "csv", how, iter(paths), size)


@given(st.lists(names, min_size=1, max_size=12), st.integers(1, 5))
def test_a_list_is_cut_once_and_found_again(paths: list[str], size: int):
    with tempfile.TemporaryDirectory() as name:
        for _ in range(2):
            parts = claim(Path(name), paths, size)
            assert [path for number in range(parts.count) for path in parts.paths(number)] == paths
            assert all(len(parts.paths(number)) == size for number in range(parts.count - 1))
            assert parts.missing() == list(range(parts.count))


@given(st.lists(names, min_size=1, max_size=9), st.lists(names, min_size=1, max_size=9), st.integers(1, 4))
def test_another_list_is_refused_with_the_difference(before: list[str], now: list[str], size: int):
    with tempfile.TemporaryDirectory() as name:
        claim(Path(name), before, size)
        if before == now:
            claim(Path(name), now, size)
            return
        with pytest.raises(DataError) as refused:
            claim(Path(name), now, size)
    said = str(refused.value)
    more, fewer = Counter(now) - Counter(before), Counter(before) - Counter(now)
    assert (f"not listed then: {more.total()}, such as" in said) == bool(more)
    assert (f"no longer listed: {fewer.total()}, such as" in said) == bool(fewer)
    assert ("in another order" in said) == (not more and not fewer)


def test_what_is_complete_is_kept_and_counted(tmp_path: Path):
    parts = claim(tmp_path, list("abcdefg"))
    tally = Tally(Counter({"good": 2}), rejected=1)
    parts.write(1, b"rows", tally)
    again = claim(tmp_path, list("abcdefg"))
    assert again.missing() == [0, 2]
    assert again.tally() == tally
    assert (tmp_path / "part-00001.csv").read_bytes() == b"rows"
    # Killed between the rows and the counts: made again.
    (tmp_path / "_state/done/00001.json").unlink()
    assert claim(tmp_path, list("abcdefg")).missing() == [0, 1, 2]


def test_a_list_that_was_not_written_to_its_end_is_written_again(tmp_path: Path):
    claim(tmp_path, list("abcdefg"))
    (tmp_path / "_state/manifest.json").unlink()
    assert claim(tmp_path, ["x"]).paths(0) == ["x"]


def test_another_way_of_answering_is_refused_with_the_difference(tmp_path: Path):
    claim(tmp_path, ["a"])
    with pytest.raises(DataError, match=r"format was 'onnx', and is 'openvino'"):
        claim(tmp_path, ["a"], how=HOW | {"format": "openvino"})
    with pytest.raises(DataError, match=r"part_size was 3, and is 4"):
        claim(tmp_path, ["a"], size=4)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match=r"holds 'thesis.txt' and no parts; give a folder of its own"):
        claim(tmp_path, ["a"])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_no_image_at_all_is_refused_and_leaves_no_manifest(tmp_path: Path):
    with pytest.raises(DataError, match="there is no image"):
        claim(tmp_path / "parts", [])
    assert not (tmp_path / "parts").exists()


@pytest.mark.parametrize("name", ["_state/manifest.json", "_state/done/00000.json"])
@pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps({"labels": 1})])
def test_damaged_state_is_said_to_be(tmp_path: Path, name: str, text: str):
    claim(tmp_path, ["a"]).write(0, b"", Tally())
    (tmp_path / name).write_text(text)
    with pytest.raises(StorageError, match="is damaged"):
        claim(tmp_path, ["a"]).tally()


def test_a_worker_keeps_its_answers_while_storage_is_away(
    bundle_folder: Path, image_files: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    photo, output = tmp_path / "photo.png", tmp_path / "parts"
    photo.write_bytes(image_files.encode(image_files.photo(48, 40), "PNG"))
    parts = claim(output, [str(photo)])
    order = WorkerOrder(
        place=str(bundle_folder),
        digest=Bundle.open(bundle_folder).digest,
        options=PredictOptions("onnx", threads=1, outage_s=60.0),
        base=str(tmp_path),
        output=str(output),
        count=1,
        kind="csv",
    )
    answers = list[dict[str, Any]]()
    work = threading.Thread(target=lambda: answers.append(PartWorker(order)({"part": np.zeros(1, np.int64)})))
    with moved_away(output):
        work.start()
        while "storage is away" not in caplog.text:
            time.sleep(0.005)
    work.join(60)
    assert answers[0]["message"] == [""]
    assert parts.missing() == []
    assert parts.tally().images == 1
    assert "storage is there again" in caplog.text


def test_tallies_add_up_and_come_back():
    one, other = Tally(Counter({"good": 2}), 1, 0), Tally(Counter({"good": 1, "bent": 4}), 0, 3)
    one.add(other)
    assert one == Tally(Counter({"good": 3, "bent": 4}), 1, 3)
    assert (one.images, one.read) == (11, 8)
    assert Tally.from_json(json.loads(json.dumps(one.to_json()))) == one
    assert one.summary(2.0) == "11 images in 2.0 s (6 images/s): 1 rejected, 3 unreadable\nbent 4, good 3"


def test_a_summary_of_many_classes_is_short():
    tally = Tally(Counter({f"class {number}": 100 - number for number in range(50)}))
    said = tally.summary(1.0)
    assert said.endswith("class 19 81, 1965 of 30 more classes")
