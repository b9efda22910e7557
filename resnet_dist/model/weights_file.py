"""What `model.weights` names, and whether a file of weights is there. Torch-free."""

import zipfile
from pathlib import Path
from typing import Literal

from resnet_dist.errors import RunError

_SUFFIXES = (".safetensors", ".pth", ".pt")
_MAX_FILE_BYTES = 4 * 1024**3
"""Eight times the largest architecture's weights: room for a training checkpoint that holds them."""


def kind_of_weights(weights: str) -> Literal["none", "torchvision", "file", "run"]:
    """Which of the ways to begin a text is; what is none of the others is a run."""
    if weights == "none":
        return "none"
    if weights == "imagenet" or weights.upper().startswith("IMAGENET1K_"):
        return "torchvision"
    return "file" if weights.endswith(_SUFFIXES) else "run"


def check_weights_file(path: Path) -> None:
    """Raises RunError for a file that is not there, or too large to be weights."""
    if not path.is_file():
        raise RunError(f"weights file {path} does not exist; give a .safetensors or .pth file, a run, imagenet or none")
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = max(size, sum(member.file_size for member in archive.infolist()))
    if size > _MAX_FILE_BYTES:
        raise RunError(f"weights file {path} has {size} bytes, more than the {_MAX_FILE_BYTES} that are read")
