"""What a node says of itself before anything of ours is trusted there: packages, sources, image.

Only the standard library, and no name of this package inside of functions: it travels to a node by value, since a node
of another image may lack this module, and that is what is looked for.
"""

import hashlib
import importlib.util
import os
import platform
import re
import socket
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

IMAGE_VARIABLE = "RESNET_DIST_IMAGE"
"""Holds the image's name in a pod: a process cannot see what image it runs in."""
SOURCES = ("cluster", "data_pipeline", "ray_jobs", "resnet_dist")


@dataclass(frozen=True)
class Survey:
    """A node's answer."""

    hostname: str
    image: str
    """Empty where nothing says it."""
    python: str
    packages: dict[str, str]
    """Version of every installed distribution, by its normalised name; of two, the one that an import finds."""
    sources: dict[str, str]
    """SHA-256 of every file of this project's own packages, by its path; empty where there is no such package."""


def survey() -> dict[str, Any]:
    """The fields of `Survey`, as plain values: the class may not be there."""
    packages: dict[str, str] = {}
    for each in distributions():
        name = each.metadata["Name"]
        if name:
            packages.setdefault(re.sub(r"[-_.]+", "-", name).lower(), each.version)
    sources: dict[str, str] = {}
    for package in SOURCES:
        found = importlib.util.find_spec(package)
        for root in (found.submodule_search_locations or ()) if found else ():
            for path in sorted(Path(root).rglob("*")):
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
