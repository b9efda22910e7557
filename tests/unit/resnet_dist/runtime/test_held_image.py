"""What a program holds gives the pixels that the file gives."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnet_dist.runtime.errors import UnreadableImageError
from resnet_dist.runtime.held_image import rgb_of_array, rgb_of_pillow
from resnet_dist.runtime.image_file import decode_rgb

MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"]
KINDS = {"1": "PNG", "L": "PNG", "LA": "PNG", "P": "PNG", "RGB": "PNG", "RGBA": "PNG", "CMYK": "JPEG", "YCbCr": "JPEG"}


def from_file(data: bytes, bit_depth: int | None = None) -> np.ndarray:
    return decode_rgb(data, bit_depth=bit_depth, max_pixels=10**6)


def from_pillow(data: bytes, bit_depth: int | None = None, *, is_loaded: bool = False) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        if is_loaded:
            image.load()
        return rgb_of_pillow(image, bit_depth=bit_depth, max_pixels=10**6)


@pytest.mark.parametrize("is_loaded", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_an_image_of_pillow_has_the_pixels_of_its_file(image_files: Any, mode: str, *, is_loaded: bool):
    data = image_files.encode(image_files.photo(48, 40), KINDS[mode], mode)
    assert np.array_equal(from_pillow(data, is_loaded=is_loaded), from_file(data))


@pytest.mark.parametrize("is_loaded", [False, True])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_of_pillow_is_turned_once(image_files: Any, kind: str, orientation: int, *, is_loaded: bool):
    data = image_files.turned(image_files.photo(48, 40), kind, orientation)
    assert np.array_equal(from_pillow(data, is_loaded=is_loaded), from_file(data))


@pytest.mark.parametrize("is_loaded", [False, True])
def test_grey_of_sixteen_bits_is_scaled_as_in_a_file(image_files: Any, *, is_loaded: bool):
    values = np.random.default_rng(0).integers(0, 4096, (40, 48), dtype=np.uint16)
    data = image_files.png(values[:, :, None], 16, 0)
    expected = from_file(data, 12)
    assert np.array_equal(from_pillow(data, 12, is_loaded=is_loaded), expected)
    assert np.array_equal(rgb_of_array(values, bit_depth=12), expected)
    assert np.array_equal(rgb_of_array(values[:, :, None], bit_depth=12), expected)
    with pytest.raises(UnreadableImageError, match=r"data\.bit_depth"):
        from_pillow(data, is_loaded=is_loaded)
    with pytest.raises(UnreadableImageError, match=r"data\.bit_depth"):
        rgb_of_array(values, bit_depth=None)


def test_colour_of_sixteen_bits_is_scaled_from_arrays_and_refused_from_pillow(image_files: Any):
    values = np.random.default_rng(0).integers(0, 4096, (40, 48, 3), dtype=np.uint16)
    data = image_files.png(values, 16, 2)
    assert np.array_equal(rgb_of_array(values, bit_depth=12), from_file(data, 12))
    with pytest.raises(UnreadableImageError, match="keeps 8 of 16 bits"):
        from_pillow(data, 12)


@pytest.mark.parametrize("is_loaded", [False, True])
def test_what_pillow_stretches_or_reads_wrongly_is_refused(image_files: Any, *, is_loaded: bool):
    grey = b"P5 2 1 4095\n" + np.array([100, 4095], dtype=">u2").tobytes()
    colour = b"P6 1 1 65535\n" + np.array([100, 2000, 65535], dtype=">u2").tobytes()
    planes = image_files.tiff16(np.full((4, 4, 3), 700, dtype=np.uint16), planes=True)
    with pytest.raises(UnreadableImageError, match="stretches a PPM"):
        from_pillow(grey, 12, is_loaded=is_loaded)
    for data in (colour, planes) if not is_loaded else ():
        with pytest.raises(UnreadableImageError, match=r"16-bit pixels in separate planes|keeps 8 of 16 bits"):
            from_pillow(data, 12)


def test_grey_becomes_three_equal_channels_and_colour_stays(image_files: Any):
    photo = image_files.photo(48, 40)
    assert np.array_equal(rgb_of_array(photo, bit_depth=None), photo)
    grey = rgb_of_array(photo[:, :, 0], bit_depth=None)
    assert grey.shape == (40, 48, 3)
    assert (grey == photo[:, :, :1]).all()


def test_what_is_too_large_damaged_or_of_floats_is_an_unreadable_image(image_files: Any):
    with pytest.raises(UnreadableImageError, match=r"0x40 pixels"):
        rgb_of_pillow(Image.new("RGB", (0, 40)), bit_depth=None, max_pixels=10**6)
    with pytest.raises(UnreadableImageError, match=r"48x40 pixels; .* data\.max_pixels=1919"):
        rgb_of_pillow(Image.new("RGB", (48, 40)), bit_depth=None, max_pixels=1919)
    with pytest.raises(UnreadableImageError, match="floating-point"):
        rgb_of_pillow(Image.new("F", (48, 40)), bit_depth=None, max_pixels=10**6)
    with pytest.raises(UnreadableImageError, match="damaged image"):
        from_pillow(image_files.damaged()["half a PNG"])
