"""Where the manifests are, and how they are built."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifests import crd_schemas

K8S = Path(__file__).parents[2] / "k8s"
VERBS = ("train", "tune", "evaluate", "compress", "export")

needs_definitions = pytest.mark.skipif(not crd_schemas.available(), reason=crd_schemas.MISSING)
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on this machine")


def read(path: Path) -> list[dict[str, Any]]:
    """The objects of a file."""
    return list(yaml.load_all(path.read_bytes(), Loader=yaml.CSafeLoader))


def build(folder: Path) -> list[dict[str, Any]]:
    """What `kubectl apply -k` would send."""
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return list(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))


def jobs(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The RayJobs, by their verb."""
    return {each["metadata"]["labels"]["resnet-dist/verb"]: each for each in objects if each["kind"] == "RayJob"}
