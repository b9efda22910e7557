"""From 16-bit values to the 8 bits of a level: by the significant bits that the data's owner has named."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from resnet_dist.runtime.errors import UnreadableImageError

BAND_PIXELS = 2**18


def known_depth(bit_depth: int | None) -> int:
    """The significant bits. Raises UnreadableImageError where nobody said how many there are."""
    if bit_depth is None:
        raise UnreadableImageError(
            "16-bit pixels need data.bit_depth, their significant bits; set it (12 for most industrial cameras)"
        )
    return bit_depth


def levels_of(bit_depth: int) -> NDArray[np.uint8]:
    """The 8-bit level of each 16-bit value."""
    return np.clip(np.rint(np.arange(65536) * (255.0 / (2**bit_depth - 1))), 0, 255).astype(np.uint8)


def bands(width: int, height: int) -> Iterator[tuple[int, int]]:
    """First and last row, exclusive, of parts of an image: looking up a level takes many times a pixel's memory."""
    rows = max(BAND_PIXELS // width, 1)
    return ((start, min(start + rows, height)) for start in range(0, height, rows))


def scaled(values: NDArray[np.integer], bit_depth: int) -> NDArray[np.uint8]:
    """Uint8 of the same shape [height, width, ...] for 16-bit values."""
    levels, (height, width) = levels_of(bit_depth), values.shape[:2]
    eight_bit = np.empty(values.shape, np.uint8)
    for start, stop in bands(width, height):
        eight_bit[start:stop] = levels[np.clip(values[start:stop], 0, 65535)]
    return eight_bit
