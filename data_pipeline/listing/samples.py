"""The rows of a dataset: which files there are and what training must know of each, as columns."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Decode = Callable[[bytes], NDArray[np.uint8]]
"""Bytes of an image file -> uint8 [height, width, 3] RGB, upright (EXIF applied), 16 bits scaled to 8.

Raises ValueError with the reason when the file cannot be read. The composition root hands in the runtime's."""


@dataclass(frozen=True)
class Samples:
    """N images of one dataset or of one of its splits, sorted by sample id; every column has N rows."""

    root: str
    """Folder that the sample ids are relative to."""
    classes: tuple[str, ...]
    """Class names; a label is a position in it."""
    sample_ids: tuple[str, ...]
    """Relative paths with "/" between parts, as text (see `sample_id_of`)."""
    keys: NDArray[np.uint64]
    """[N] `key_of` each sample id: what every random draw is keyed by."""
    labels: NDArray[np.int64]
    """[N] positions in `classes`."""
    sizes: NDArray[np.int32]
    """[N, 2] upright width and height in pixels."""
    plain: NDArray[np.bool_]
    """[N] True where every decoder reads the file's bytes alike (8-bit grey or RGB, no palette, alpha or CMYK);
    the others are decoded by `Decode` before they reach DALI."""
    content: tuple[str, ...]
    """BLAKE2b-128 of each file's bytes, in hex."""

    def __len__(self) -> int:
        return len(self.sample_ids)

    def path(self, row: int) -> bytes:
        """Path of a row's file, as bytes: names need not be UTF-8."""
        return os.fsencode(self.root) + b"/" + relative_path_of(self.sample_ids[row])

    def select(self, rows: NDArray[np.integer]) -> "Samples":
        """Some of the rows, in the order given."""
        positions = [int(row) for row in rows]
        return Samples(
            root=self.root,
            classes=self.classes,
            sample_ids=tuple(self.sample_ids[row] for row in positions),
            keys=self.keys[rows],
            labels=self.labels[rows],
            sizes=self.sizes[rows],
            plain=self.plain[rows],
            content=tuple(self.content[row] for row in positions),
        )


def read_file(samples: Samples, row: int) -> bytes:
    """The bytes of a sample's file."""
    return Path(os.fsdecode(samples.path(row))).read_bytes()


def sample_id_of(relative_path: bytes) -> str:
    r"""The text of a relative path: UTF-8, a backslash doubled, a byte that is not UTF-8 as \xNN. Reversible."""
    return relative_path.replace(b"\\", b"\\\\").decode("utf-8", errors="backslashreplace")


def relative_path_of(sample_id: str) -> bytes:
    """The path that `sample_id_of` made the text of."""
    parts = sample_id.encode("utf-8").split(b"\\\\")
    return b"\\".join(_unescaped(part) for part in parts)


def key_of(sample_id: str) -> int:
    """64-bit key of a sample: BLAKE2b-64 of its id's UTF-8."""
    return int.from_bytes(hashlib.blake2b(sample_id.encode("utf-8"), digest_size=8).digest(), "little")


def _unescaped(part: bytes) -> bytes:
    first, *escaped = part.split(b"\\x")
    return first + b"".join(bytes([int(rest[:2], 16)]) + rest[2:] for rest in escaped)
