"""What is installed on a node: packages, this project's files, image. It runs before any of our code is trusted there.

Standard library only, and no function uses a name of this project's other modules: the module travels to a node by
value, because a node with another image may lack it, and that is what the survey looks for.
"""

import hashlib
import importlib.util
import os
import platform
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

IMAGE_VARIABLE = "RESNET_DIST_IMAGE"
"""Holds the image's name in a pod: a process cannot see what image it runs in."""


@dataclass(frozen=True)
class Survey:
    """What is installed on a node."""

    hostname: str
    image: str
    """Empty where the variable is not set."""
    python: str
    packages: dict[str, str]
    """Version of every installed distribution, by its normalised name; of two, the one that an import finds."""
    sources: dict[str, str]
    """SHA-256 of every file of this project's own packages, by its path; empty where there is no such package."""


def survey(own_packages: Sequence[str]) -> dict[str, Any]:
    """The fields of `Survey`, as plain values: the class may not be there. Files of `own_packages` are hashed."""
    packages: dict[str, str] = {}
    for each in distributions():
        name = each.metadata["Name"]
        if name:
            packages.setdefault(re.sub(r"[-_.]+", "-", name).lower(), each.version)
    sources: dict[str, str] = {}
    for package in own_packages:
        found = importlib.util.find_spec(package)
        # Not its search locations: a process that has imported the package may have added to them.
        for root in {Path(found.origin).parent} if found and found.origin else ():
            for path in sorted(root.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    name = f"{package}/{path.relative_to(root).as_posix()}"
                    sources[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "hostname": socket.gethostname(),
        "image": os.environ.get(IMAGE_VARIABLE, ""),
        "python": platform.python_version(),
        "packages": packages,
        "sources": sources,
    }
