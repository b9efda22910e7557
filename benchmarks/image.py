"""How long the image takes to build, how large it is, and a training of the digits in it.

Run as root on Debian, with buildah and debootstrap: `.venv/bin/python -m benchmarks.image [--extras all]`. The base is
debootstrap's, as in tests/manifests/test_image_build.py. The training is of one epoch with two workers, as user 1000 on
a read-only root with the volumes of the head's pod. Everything is made in a temporary folder (TMPDIR chooses the disk),
which must have 40 GB. "Peak disk" is how much of the disk was taken more than before, looked at every 5 s.
"""

import argparse
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from cluster.kube.manifests import load_job
from tests.image_build import Buildah, hindrance
from tests.pod_sandbox import Pod, run_pod

INTERVAL_S = 5.0
INSIDE = """
set -eu
resnet-dist data sample digits /storage/digits
resnet-dist doctor --storage.root /storage/outputs --model.weights none
resnet-dist train --config /etc/resnet-dist/job.toml
"""
JOB = """
name = "digits"
[data]
root = "/storage/digits"
image_size = 32
[model]
arch = "resnet18"
weights = "none"
[training]
epochs = 1
global_batch_size = 64
[storage]
root = "/storage/outputs"
[cluster]
num_workers = 2
use_gpu = false
"""


class DiskUse:
    """How much more of a disk is taken than at the start, at most."""

    def __init__(self, folder: Path) -> None:
        self.peak_gb = 0.0
        self._folder = folder
        self._start = shutil.disk_usage(folder).used

    def look(self) -> None:
        """Look at the disk now."""
        self.peak_gb = max(self.peak_gb, (shutil.disk_usage(self._folder).used - self._start) / 1e9)


@contextmanager
def watched(folder: Path) -> Iterator[DiskUse]:
    """Looks at the disk of `folder` every few seconds, and once more at the end."""
    use, done = DiskUse(folder), threading.Event()

    def watch() -> None:
        while not done.wait(INTERVAL_S):
            use.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield use
    finally:
        done.set()
        thread.join()
        use.look()


def train(buildah: Buildah, image: str, folder: Path) -> str:
    """What a training of the digits in the image says. Raises RuntimeError where it fails."""
    config = buildah.config_of(image)
    environment = dict(str(each).split("=", 1) for each in config["Env"])
    (job,) = [each for each in load_job("train") if each["kind"] == "RayJob"]
    spec = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    storage = folder / "storage"
    storage.mkdir(parents=True)
    shutil.chown(storage, 1000, 1000)
    with buildah.files_of(image) as files:
        pod = Pod(spec, environment, JOB, INSIDE, files, Path(str(config["WorkingDir"])), storage)
        done = run_pod(folder, pod, timeout_s=900)
    if done.returncode:
        raise RuntimeError(f"{done.stdout}\n{done.stderr}")
    return done.stdout


def main() -> int:
    """Build, train, print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", default="all", help="of pyproject.toml: all, or some that train")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rd-image-") as name:
        folder = Path(name)
        if reason := hindrance(folder):
            print(reason, file=sys.stderr)
            return 2
        (folder / "images").mkdir()
        with watched(folder) as use:
            buildah = Buildah(folder / "images")
            start = perf_counter()
            base = buildah.stand_in_base()
            made = perf_counter()
            image = buildah.build(base, "cpu", given.extras, timeout_s=5400)
            built = perf_counter()
            build_peak_gb = max(use.peak_gb, 0)
            size = buildah("images", "--format", "{{.Name}} {{.Size}}")
            print(f"base {made - start:.0f} s, image {built - made:.0f} s, peak disk {build_peak_gb:.1f} GB\n{size}", flush=True)
            print(train(buildah, image, folder / "pod"))
            trained = perf_counter()
        print(f"doctor, digits and training {trained - built:.0f} s, peak disk of all {use.peak_gb:.1f} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
