"""How files store their images, as their headers say."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnet_dist.runtime.errors import UnreadableImageError
from resnet_dist.runtime.image_file import decode_rgb, image_header, image_kind

MAX_PIXELS = 10**6


def kind(data: bytes) -> tuple[str, str, int, int]:
    return image_kind(data, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize(
    ("file_format", "mode", "stored"),
    [
        ("JPEG", "RGB", "RGB"),
        ("JPEG", "L", "L"),
        ("JPEG", "CMYK", "CMYK"),
        ("PNG", "RGB", "RGB"),
        ("PNG", "RGBA", "RGBA"),
        ("PNG", "L", "L"),
        ("PNG", "LA", "LA"),
        ("PNG", "P", "P"),
        ("PNG", "1", "1"),
        ("BMP", "RGB", "RGB"),
        ("BMP", "L", "L"),
        ("TIFF", "RGB", "RGB"),
        ("TIFF", "CMYK", "CMYK"),
        ("WEBP", "RGB", "RGB"),
        ("WEBP", "RGBA", "RGBA"),
        ("PPM", "RGB", "RGB"),
        ("PPM", "L", "L"),
        ("GIF", "P", "P"),
    ],
)
def test_the_format_and_mode_of_8_bits(image_files: Any, file_format: str, mode: str, stored: str) -> None:
    picture = Image.fromarray(image_files.photo(24, 16)).convert(mode)
    if mode == "RGBA":
        picture.putalpha(99)  # WebP drops an alpha that hides nothing
    assert kind(image_files.encode(picture, file_format)) == (file_format, stored, 8, 1)


def deep_files(image_files: Any) -> dict[tuple[str, str], bytes]:
    rng = np.random.default_rng(0)
    grey, colour, clear = (rng.integers(0, 2**16, (6, 8, channels), dtype=np.uint16) for channels in (1, 3, 4))
    return {
        ("PNG", "I;16"): image_files.png(grey, 16, 0),
        ("PNG", "RGB"): image_files.png(colour, 16, 2),
        ("PNG", "RGBA"): image_files.png(clear, 16, 6),
        ("TIFF", "RGB"): image_files.tiff16(colour),
        ("PPM", "I"): b"P5 8 6 4095\n" + (grey // 16).astype(">u2").tobytes(),
    }


def test_more_than_8_bits_are_16(image_files: Any) -> None:
    for (file_format, mode), data in deep_files(image_files).items():
        assert kind(data) == (file_format, mode, 16, 1)
        assert decode_rgb(data, bit_depth=16, max_pixels=MAX_PIXELS).shape == (6, 8, 3)
        with pytest.raises(UnreadableImageError):
            image_kind(data, max_pixels=6 * 8 - 1)
    assert kind(image_files.tiff16(np.zeros((6, 8, 3), np.uint16), order=">"))[2] == 16


@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 9])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_the_orientation_is_exifs_and_1_where_there_is_none(
    image_files: Any, file_format: str, orientation: int
) -> None:
    data = image_files.turned(image_files.photo(24, 16), file_format, orientation)
    assert kind(data) == (file_format, "RGB", 8, orientation if 1 <= orientation <= 8 else 1)


def test_pixels_need_not_be_whole(image_files: Any) -> None:
    data = image_files.encode(image_files.photo(64, 48), "PNG")
    assert kind(data[: len(data) // 2]) == kind(data)


def test_what_has_no_header_is_unreadable(image_files: Any) -> None:
    refused = 0
    for name, data in image_files.damaged().items():
        try:
            image_header(data, max_pixels=MAX_PIXELS)
        except UnreadableImageError:
            with pytest.raises(UnreadableImageError):
                kind(data)
            refused += 1
        else:
            assert kind(data).format in name
    assert refused >= 6


def test_too_many_pixels_are_unreadable(image_files: Any) -> None:
    data = image_files.encode(image_files.photo(30, 20), "PNG")
    assert image_kind(data, max_pixels=600).format == "PNG"
    with pytest.raises(UnreadableImageError, match="600"):
        image_kind(image_files.encode(image_files.photo(30, 21), "PNG"), max_pixels=600)
