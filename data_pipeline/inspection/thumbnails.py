"""What one look at an image's pixels tells: its sums, its sharpness, and a small grey picture of it.

A look costs a fraction of what decoding cost. So the pixels are read once, in blocks that are added up in whole
numbers, and everything but the sharpness is made of the blocks.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SIDE = 32
"""Of a thumbnail, in pixels."""
GREY = np.array([0.299, 0.587, 0.114])
"""Shares of red, green and blue (ITU-R BT.601), as Pillow's."""
_SCALE = 256
"""Levels of a thumbnail for each level of the image: parts may differ by less than one."""
_MOST_SIDE = 256
"""Rows of 8 bits whose sum 16 bits hold, and of a square whose sum 24 bits hold."""
_SAMPLED_ROWS = 24


@dataclass(frozen=True)
class Look:
    """Of one image."""

    sums: tuple[int, int, int]
    """Of all its pixels' red, green and blue, 0..255 each."""
    sharpness: float
    """Variance of the Laplacian of green, in squared levels, over 24 rows spread over the image; 0 where it has fewer
    than three rows or columns. The measure of Pech-Pacheco et al. (ICPR 2000)."""
    thumbnail: NDArray[np.uint16]
    """[SIDE, SIDE], grey levels of 0..255 times 256: the mean of what each pixel covers."""


def look_at(pixels: NDArray[np.uint8]) -> Look:
    """`pixels`: [height, width, 3] RGB, upright."""
    height, width, _ = pixels.shape
    side = min(max(1, min(height, width) // (2 * SIDE)), _MOST_SIDE)
    blocks = _blocks(pixels, side)
    red, green, blue = (int(total) for total in blocks.sum(axis=0, dtype=np.float64).sum(axis=0))
    grey = _weights(height, side) @ (blocks @ GREY) @ _weights(width, side).T
    thumbnail = np.rint(grey * _SCALE).clip(0, 255 * _SCALE).astype(np.uint16)
    return Look((red, green, blue), _sharpness(pixels), thumbnail)


def _blocks(pixels: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Sums over squares of `side` pixels, those at the far edges narrower: [rows, columns, 3], whole numbers.

    float32 holds them without rounding: they stay below 2**24.
    """
    height, width, _ = pixels.shape
    whole = height // side
    rows = np.zeros((-(-height // side), width * 3), np.uint16)
    # Row after row, for numpy adds whole rows at once, and a sum over a short axis value by value.
    lines = pixels.reshape(height, width * 3)
    for offset in range(side):
        rows[:whole] += lines[offset : whole * side : side]
    for line in lines[whole * side :]:
        rows[whole] += line
    if side == 1:
        return rows.reshape(height, width, 3).astype(np.float32)
    columns = -(-width // side)
    padded = np.zeros((len(rows), columns * side * 3), np.float32)
    padded[:, : width * 3] = rows
    # A product with ones adds side pixels of each colour.
    return (padded.reshape(-1, side * 3) @ _adding(side)).reshape(len(rows), columns, 3)


@lru_cache(maxsize=256)
def _adding(side: int) -> NDArray[np.float32]:
    return np.tile(np.eye(3, dtype=np.float32), (side, 1))


@lru_cache(maxsize=256)
def _weights(length: int, side: int) -> NDArray[np.float64]:
    """What each row of a thumbnail takes of each block's sum along one axis: float64 [SIDE, blocks].

    An image shorter than a thumbnail gives a part of one pixel to several of its rows.
    """
    edges = np.minimum(np.arange(-(-length // side) + 1) * side, length)
    wanted = np.arange(SIDE + 1) * (length / SIDE)
    low = np.maximum(wanted[:-1, None], edges[None, :-1])
    high = np.minimum(wanted[1:, None], edges[None, 1:])
    covered = np.maximum(high - low, 0.0)
    return covered / np.diff(edges) / (length / SIDE)


def _sharpness(pixels: NDArray[np.uint8]) -> float:
    height, width, _ = pixels.shape
    if min(height, width) < 3:
        return 0.0
    count = min(_SAMPLED_ROWS, height - 2)
    middle = 1 + (2 * np.arange(count) + 1) * (height - 2) // (2 * count)
    green = pixels[:, :, 1]
    above, here, below = (green[middle + offset].astype(np.int32) for offset in (-1, 0, 1))
    laplacian = above[:, 1:-1] + below[:, 1:-1] + here[:, :-2] + here[:, 2:] - 4 * here[:, 1:-1]
    return float(laplacian.var())
