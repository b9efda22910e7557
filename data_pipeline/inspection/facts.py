"""The facts of images as columns: what an inspection learns of each file and remembers between starts."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from data_pipeline.inspection.thumbnails import SIDE, look_at

Kind = Callable[[bytes], tuple[str, str, int, int]]
"""Bytes of an image file -> format, mode of its pixels, bits of a channel, EXIF orientation. Raises ValueError. The
composition root hands in the runtime's."""

FACTS = np.dtype(
    [
        ("bytes", np.uint64),
        ("format", "S8"),
        ("mode", "S12"),
        ("bits", np.uint8),
        ("orientation", np.uint8),
        ("sums", np.uint64, (3,)),
        ("sharpness", np.float32),
        ("thumbnail", np.uint16, (SIDE, SIDE)),
    ]
)
"""One image: how long its file is, and what `Kind` and `Look` say."""


def facts_of(data: bytes, pixels: NDArray[np.uint8], kind: Kind) -> NDArray[np.void]:
    """Of an image file that was decoded to uint8 [height, width, 3]: one record of `FACTS`."""
    file_format, mode, bits, orientation = kind(data)
    look = look_at(pixels)
    found = np.zeros(1, FACTS)
    found["bytes"], found["format"], found["mode"] = len(data), file_format, mode
    found["bits"], found["orientation"] = bits, orientation
    found["sums"], found["sharpness"], found["thumbnail"] = look.sums, look.sharpness, look.thumbnail
    return found
