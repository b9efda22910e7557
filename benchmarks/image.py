"""How long the image takes to build, how large it is, and a training of the digits in it.

Run as root on Debian, with buildah and debootstrap: `.venv/bin/python -m benchmarks.image [--extras all]`. The base is
debootstrap's, as in tests/manifests/test_image_build.py. The training has five epochs and two workers, and runs as user
1000 on a read-only root with the volumes of the head's pod. Everything is made in a temporary folder (TMPDIR chooses
the disk), which must have 50 GB. "Peak disk" is how much of the disk was taken more than before, looked at every 5 s.
"""

import argparse
import shutil
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from tests.image_build import Buildah, hindrance
from tests.pod_sandbox import run_pod

INTERVAL_S = 5.0
FREE_GB = 50.0
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
epochs = 5
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
def watched(folder: Path) -> Generator[DiskUse]:
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
    storage = folder / "storage"
    storage.mkdir(parents=True)
    shutil.chown(storage, 1000, 1000)
    with buildah.pod(image, storage, INSIDE, JOB) as pod:
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
        if reason := hindrance(folder, FREE_GB):
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
            print(f"base {made - start:.0f} s, image {built - made:.0f} s, peak disk {use.peak_gb:.1f} GB")
            print(buildah("images", "--format", "{{.Name}} {{.Size}}"), flush=True)
            print(train(buildah, image, folder / "pod"))
            trained = perf_counter()
        print(f"doctor, digits and training {trained - built:.0f} s, peak disk of all {use.peak_gb:.1f} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
