"""A small file that unfolds into a large image is refused by its header, or takes little more than its pixels."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from resnet_dist.runtime.errors import UnreadableImageError
from resnet_dist.runtime.image_file import decode_rgb

GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6
CHANNELS = {GREY: 1, RGB: 3, GREY_ALPHA: 2, RGBA: 4}


@pytest.mark.parametrize(
    ("bits", "colour_type", "most"),
    [(8, GREY, 1200), (8, RGB, 1200), (8, RGBA, 1200), (16, GREY, 1200), (16, RGB, 800), (16, RGBA, 600)],
)
def test_a_pixel_may_take_four_bytes(bits: int, colour_type: int, most: int, image_files: Any):
    """max_pixels = 1200, in files of one row."""

    def row(width: int) -> bytes:
        return image_files.png(np.zeros((1, width, CHANNELS[colour_type]), np.uint16), bits, colour_type)

    assert decode_rgb(row(most), bit_depth=16, max_pixels=1200).shape == (1, most, 3)
    with pytest.raises(UnreadableImageError, match=rf"{most + 1}x1 pixels .*data.max_pixels=1200"):
        decode_rgb(row(most + 1), bit_depth=16, max_pixels=1200)


@pytest.mark.parametrize(("bits", "colour_type"), [(8, RGB), (16, GREY), (16, RGB), (16, RGBA)])
def test_decoding_takes_a_few_bytes_a_pixel(bits: int, colour_type: int, image_files: Any):
    """Beside Pillow's own image, which takes four."""
    side = 2000
    data = image_files.png(np.zeros((side, side, CHANNELS[colour_type]), np.uint16), bits, colour_type)
    tracemalloc.start()
    decode_rgb(data, bit_depth=16, max_pixels=2 * side * side)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 14 * side * side
