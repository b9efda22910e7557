"""The image, built and run: its commands as user 1000 on a root that cannot be written, without torch."""

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ImageFiles
from tests.image_build import Buildah, hindrance
from tests.pod_sandbox import ROOT, can_make_namespaces, run_pod

# Minutes for the base and the build, seconds for the commands; more than twice as much beside other work.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

UNCHECKED = (1).to_bytes(4, "little")
"""The flags of byte code that is not compared with its source (PEP 552)."""
INSIDE = """
set -u
grep -E "^(Cap(Eff|Bnd)|NoNewPrivs|Uid):" /proc/self/status
echo "ROOT $(grep ' / ' /proc/self/mounts | cut -d' ' -f4)"
resnet-dist doctor --storage.root /storage/outputs; echo "doctor: $?"
resnet-dist predict /storage/bundle /storage/images --probabilities --output /storage/labels.csv; echo "predict: $?"
"""


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    folder = tmp_path_factory.mktemp("image")
    reason = hindrance(folder) or ("" if can_make_namespaces() else "needs namespaces of the network")
    if reason:
        pytest.skip(reason)
    try:
        yield Buildah(folder)
    finally:
        shutil.rmtree(folder)


def compiled_anew(packages: Path) -> list[str]:
    """Modules that a process may have to compile when it starts: without byte code that is used unchecked."""
    found: list[str] = []
    for module in packages.rglob("*.py"):
        compiled = [*(module.parent / "__pycache__").glob(f"{module.stem}.cpython-*[0-9].pyc")]
        if not any(each.read_bytes()[4:8] == UNCHECKED for each in compiled):
            found.append(str(module.relative_to(packages)))
    return found


def test_an_image_without_torch_diagnoses_and_predicts(
    buildah: Buildah, bundle_folder: Path, image_files: ImageFiles, tmp_path: Path
):
    image = buildah.build(buildah.stand_in_base(), "cpu", "none", timeout_s=900)
    storage = tmp_path / "storage"
    shutil.copytree(bundle_folder, storage / "bundle")
    (storage / "images").mkdir()
    for seed in range(4):
        photo = image_files.photo(48, 40, seed=seed)
        (storage / "images" / f"{seed}.png").write_bytes(image_files.encode(photo, "PNG"))
    shutil.chown(storage, 1000, 1000)
    with buildah.pod(image, storage, INSIDE) as pod:
        assert pod.image is not None
        (packages,) = (pod.image / "opt/venv/lib").glob("python3*/site-packages")
        assert compiled_anew(packages) == []
        assert not {"torch", "ray", "nvidia", "pytest"} & {each.name for each in packages.iterdir()}
        done = run_pod(tmp_path, pod, timeout_s=200)
    said = done.stdout + done.stderr
    assert "CapEff:\t0000000000000000" in said
    assert "NoNewPrivs:\t1" in said
    assert "Uid:\t1000\t1000" in said
    assert "\nROOT ro" in said
    # Jobs need more, and doctor names it; it needs no torch itself.
    assert "doctor: 1" in said
    assert "torch" in said.partition("doctor: 1")[0]
    assert "predict: 0" in said, said
    here = [sys.executable, "-m", "ray_jobs", "predict", "./bundle", "images", "--probabilities"]
    alone = {**os.environ, "PYTHONPATH": str(ROOT)}
    expected = subprocess.run(here, cwd=storage, env=alone, check=True, capture_output=True, text=True).stdout
    rows = list(csv.DictReader((storage / "labels.csv").read_text().splitlines()))
    assert [row | {"path": ""} for row in rows] == [row | {"path": ""} for row in csv.DictReader(expected.splitlines())]
    assert len(rows) == 4
