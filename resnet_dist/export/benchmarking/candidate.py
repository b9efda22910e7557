"""What the benchmark measures: a format of a bundle, or the network in PyTorch. Torch-free."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from resnet_dist.runtime.bundle import Bundle, Precision, Runtime

REFERENCES = {"eager": "contiguous", "eager_nhwc": "channels_last"}
"""The network as it was trained, in PyTorch's eager mode, by the memory format of images and weights."""


@dataclass(frozen=True)
class Candidate:
    """Something that classifies images: all that another process needs to load it."""

    name: str
    runtime: Runtime | Literal["eager"]
    precision: Precision
    files: tuple[str, ...]
    """Absolute paths; of eager: model.json and weights.safetensors."""
    size: tuple[int, int]
    """Height and width of images, in pixels."""
    hints: dict[str, str] = field(default_factory=dict[str, str])
    """Options of the runtime; of eager: memory_format."""
    any_size: bool = False
    classes: int | None = None
    """Logits of an image; None where nothing says how many there are."""


def format_candidate(bundle: Bundle, name: str) -> Candidate:
    """A format of a bundle. Raises BundleError where one of its files was changed."""
    _, chosen = bundle.format(name)
    for path in chosen.files:
        bundle.read(path)
    files = tuple(str((bundle.folder / path).absolute()) for path in chosen.files)
    return Candidate(
        name,
        chosen.runtime,
        chosen.precision,
        files,
        bundle.preprocess.input_size,
        dict(chosen.hints),
        chosen.any_size,
        len(bundle.classes),
    )


def reference_candidates(folder: Path, size: tuple[int, int]) -> list[Candidate]:
    """The network of model.json and weights.safetensors in a folder, in fp32, once for each memory format."""
    files = tuple(str((folder / name).absolute()) for name in ("model.json", "weights.safetensors"))
    return [
        Candidate(name, "eager", "fp32", files, size, {"memory_format": memory_format})
        for name, memory_format in REFERENCES.items()
    ]
