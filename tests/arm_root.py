"""An ARM machine by emulation: Debian's packages and Python's wheels for arm64, and qemu that runs one process of them.

Nothing is installed in it: packages are unpacked. Times of an emulation mean nothing; answers do.
"""

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from tests.image_build import SUITE, debian_mirror

TOOLS = {"qemu-aarch64-static": "qemu-user-static", "debootstrap": "debootstrap", "dpkg-deb": "dpkg"}
PACKAGES = ("python3.11", "libstdc++6")
WHEELS = ("onnxruntime", "numpy")
CORES = {
    "max": ("0xd40", "fp asimd aes crc32 atomics fphp asimdhp cpuid asimdrdm asimddp i8mm bf16"),
    "cortex-a72": ("0xd08", "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"),
}
"""qemu's names of processors, with part and features as Linux lists them: with 8-bit dot products, and without."""
_SCRIPT = """\
import sys

sys.path.insert(0, sys.argv[4])
import numpy
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
numpy.save(sys.argv[3], session.run(None, {"images": numpy.load(sys.argv[2])})[0])
"""


def hindrance() -> str:
    """Why there can be no such machine here; empty if there can."""
    if platform.machine() != "x86_64":
        return f"emulates ARM on x86; this is {platform.machine()}"
    if lacking := [package for tool, package in TOOLS.items() if shutil.which(tool) is None]:
        return f"needs apt-get install {' '.join(lacking)}"
    if os.geteuid() != 0:
        return "debootstrap needs root"
    return "" if debian_mirror() else f"needs a mirror of Debian {SUITE} among the sources of apt"


@dataclass(frozen=True)
class ArmRoot:
    """A folder with an arm64 system."""

    folder: Path

    @classmethod
    def unpack(cls, folder: Path) -> "ArmRoot":
        """Make it below `folder`. Raises CalledProcessError where packages cannot be had."""
        root, wheels = folder / "root", folder / "wheels"
        mirror = f"{debian_mirror()}/debian"
        chosen = ["--arch=arm64", "--variant=minbase", "--foreign", f"--include={','.join(PACKAGES)}"]
        subprocess.run(["debootstrap", *chosen, SUITE, str(root), mirror], check=True, capture_output=True)
        for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True, capture_output=True)
        pinned = [f"{name}=={version(name)}" for name in WHEELS]
        tags = [f"--platform=manylinux_2_{glibc}_aarch64" for glibc in (28, 27, 17)]
        ask = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", *tags]
        subprocess.run([*ask, "--python-version=3.11", "-d", str(wheels), *pinned], check=True, capture_output=True)
        for wheel in wheels.iterdir():
            with ZipFile(wheel) as content:
                content.extractall(root / "site")
        (root / "proc").mkdir(exist_ok=True)
        (root / "answer.py").write_text(_SCRIPT)
        return cls(root)

    def answers(self, model: Path, images: NDArray[np.uint8], cpu: str) -> NDArray[np.float32]:
        """Logits of ONNX Runtime on a processor of `CORES`."""
        part, features = CORES[cpu]
        # Libraries choose their kernels by what Linux says, and qemu would show them the file of this machine.
        (self.folder / "proc/cpuinfo").write_text(
            f"processor\t: 0\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
            f"CPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 1\n"
        )
        given, found = self.folder / "given.npy", self.folder / "found.npy"
        found.unlink(missing_ok=True)
        np.save(given, images)
        emulated = ["qemu-aarch64-static", "-cpu", cpu, "-L", str(self.folder), str(self.folder / "usr/bin/python3.11")]
        words = [*emulated, str(self.folder / "answer.py"), str(model), str(given), str(found)]
        subprocess.run(
            [*words, str(self.folder / "site")],
            check=True,
            env={"PATH": "/usr/bin:/bin", "ORT_DISABLE_TELEMETRY": "1"},
            timeout=300,
        )
        return np.load(found)
