"""Where a bundle comes from: the run, its data, the code and the packages."""

import platform
import subprocess
from pathlib import Path
from typing import Any

import resnet_dist
from ray_jobs.job.config import JobConfig
from ray_jobs.job.identity import identity
from ray_jobs.job.packages import installed_version
from ray_jobs.run.directory import RunDirectory
from resnet_dist.checkpoint.contents import Checkpoint
from resnet_dist.plain_json import plain_numbers

_PACKAGES = (
    *("resnet-dist", "torch", "torchvision", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "tensorrt"),
    *("numpy", "pillow"),
)


def provenance_of(directory: RunDirectory, job: JobConfig, found: Checkpoint, fingerprint: str) -> dict[str, Any]:
    """Plain values. Names the run, not where it is stored."""
    return {
        "run": directory.name,
        "checkpoint": found.name,
        "arch": str(found.model_json()["arch"]),
        "validation": plain_numbers(found.progress.metrics or {}),
        "config": identity(directory.read_config(), fingerprint),
        "export": job.export.model_dump(mode="json", exclude={"signing_key", "calibration_root"}),
        "data_fingerprint": fingerprint,
        "git_revision": _git_revision(Path(resnet_dist.__file__).parent),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": {name: number for name in _PACKAGES if (number := installed_version(name))},
    }


def _git_revision(folder: Path) -> str | None:
    """Of the checkout that the code runs from; None where it was installed from a wheel."""
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        listed = subprocess.run(  # noqa: S603
            ["git", "-C", str(folder), "ls-files", "--error-unmatch", "__init__.py"],  # noqa: S607
            capture_output=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 == listed.returncode else None
