"""What an export reads, and how it puts a bundle where it is read."""

import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from pyarrow import fs

from cluster.errors import StorageError
from cluster.storage.outage import Patience
from cluster.storage.store import Store
from ray_jobs.bundles.export import _claim, publish
from ray_jobs.bundles.export_data import ExportImages
from ray_jobs.errors import ConfigError
from ray_jobs.run.directory import RunDirectory
from resnet_dist.runtime.bundle import MANIFEST, Bundle
from resnet_dist.runtime.errors import BundleError
from tests.outages import moved_away
from tests.real_bundle import contract, with_formats


@pytest.fixture(scope="module")
def bundles(real_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two bundles of other formats."""
    folder = tmp_path_factory.mktemp("made")
    one = with_formats(real_bundle, folder / "one", "onnx", "torchscript")
    return one, with_formats(real_bundle, folder / "two", "onnx")


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class FailingStore(Store):
    """Ends after some more changes, as a killed process does."""

    left = 0

    def write(self, path: str, data: bytes) -> None:
        self._count()
        super().write(path, data)

    def delete(self, path: str) -> None:
        self._count()
        super().delete(path)

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise StorageError("killed")


def test_an_export_that_was_killed_at_any_change_is_followed_by_another(bundles: tuple[Path, Path], tmp_path: Path):
    one, two = bundles
    for before in (None, one):
        for changes in range(1, 7):
            target = tmp_path / f"{before and before.name}-{changes}"
            if before is not None:
                shutil.copytree(before, target)
            store = FailingStore.open(str(target))
            store.left = changes
            with pytest.raises(StorageError, match="killed"):
                publish(two, store)
            with pytest.raises(BundleError):
                Bundle.open(target)
            _claim(Store.open(str(target)))
            publish(two, Store.open(str(target)))
            assert files_in(target) == files_in(two)


def test_an_export_waits_for_storage_that_is_away(bundles: tuple[Path, Path], tmp_path: Path):
    one, two = bundles
    target, said = tmp_path / "target", list[str]()
    publish(one, Store.open(str(target)))
    patient = Store.open(str(target)).settled().patient(Patience(60.0, said.append))
    export = threading.Thread(target=publish, args=(two, patient))
    with moved_away(target):
        export.start()
        while not said:
            time.sleep(0.005)
    export.join(20)
    assert files_in(target) == files_in(two)


def test_an_unfinished_bundle_names_nothing_outside_of_it(bundles: tuple[Path, Path], tmp_path: Path):
    (tmp_path / "secret").write_text("kept")
    target = tmp_path / "bundle"
    target.mkdir()
    (target / MANIFEST).write_text(json.dumps({"schema": 0, "unfinished": ["../secret", str(tmp_path / "secret")]}))
    publish(bundles[1], Store.open(str(target)))
    assert (tmp_path / "secret").read_text() == "kept"


def test_another_programs_bundle_json_is_left_alone(bundles: tuple[Path, Path], tmp_path: Path):
    (tmp_path / MANIFEST).write_text('{"name": "a program of somebody"}')
    (tmp_path / "source").mkdir()
    with pytest.raises(ConfigError, match="holds 'source' and no bundle"):
        _claim(Store.open(str(tmp_path)))
    damaged = shutil.copytree(bundles[0], tmp_path / "damaged")
    (damaged / MANIFEST).write_text("{")
    _claim(Store.open(str(damaged)))


def test_a_runs_name_is_without_the_options_of_its_address():
    store = Store(fs.LocalFileSystem(), "/b/runs/a", "s3://b/runs/a?endpoint_override=http%3A//10.0.0.1/&region=x")
    assert RunDirectory(store).name == "a"
    assert RunDirectory(Store.open("/b/runs/a/")).name == "a"


def test_ranges_are_taken_from_all_of_a_folder_whatever_its_files_are_called(tmp_path: Path):
    for name, level in (("a", 0), ("b", 255)):
        for number in range(30):
            path = tmp_path / "images" / name / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (level,) * 3).save(path)
    (tmp_path / "images" / os.fsdecode(b"notes.\xff")).write_bytes(b"")
    found = ExportImages(contract(), tmp_path)._of_folder(tmp_path / "images", 20, seed=0)
    assert found.shape == (20, 32, 32, 3)
    assert 4 < (found.max(axis=(1, 2, 3)) == 255).sum() < 16
