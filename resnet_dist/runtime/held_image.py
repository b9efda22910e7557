"""Pixels of images that a program holds already: arrays, and images of Pillow."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

from resnet_dist.runtime.bit_depth import known_depth, scaled
from resnet_dist.runtime.errors import UnreadableImageError
from resnet_dist.runtime.image_file import (
    eight_bit,
    orientation_of,
    raw_mode_of,
    refuse_unknown_layouts,
    turned,
    unreadable_on_failure,
)


def rgb_of_array(image: NDArray[np.generic], *, bit_depth: int | None) -> NDArray[np.uint8]:
    """An upright image, uint8 or uint16 [height, width], [height, width, 1] or [height, width, 3] RGB -> uint8 RGB.

    Grey becomes three equal channels; 16-bit values are scaled as those of files are. Raises ValueError for any other
    array, UnreadableImageError for 16 bits where `bit_depth` is None.
    """
    is_image = image.ndim in (2, 3) and image.shape[2:] in ((), (1,), (3,)) and 0 not in image.shape
    if image.dtype.name not in ("uint8", "uint16") or not is_image:
        raise ValueError(
            f"an image is {image.dtype} {list(image.shape)}; it must be uint8 or uint16, [height, width, 3] RGB or "
            "[height, width] grey"
        )
    pixels = image.astype(np.uint8, copy=False) if image.dtype == np.uint8 else _scaled(image, bit_depth)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def rgb_of_pillow(image: Image.Image, *, bit_depth: int | None, max_pixels: int) -> NDArray[np.uint8]:
    """An image of Pillow, in any mode but floating point -> uint8 [height, width, 3] RGB, upright by its EXIF.

    It is what `decode_rgb` makes of the file, or UnreadableImageError. Pillow keeps 8 of 16 bits of each colour, and
    stretches the values of a PPM: both are refused, as are layouts that it reads wrongly. Of an image that was loaded,
    copied or made by a program nobody knows how its file was: it is taken as it is.
    """
    width, height = image.size
    if not 0 < width * height <= max_pixels:
        raise UnreadableImageError(f"{width}x{height} pixels; there must be 1 to data.max_pixels={max_pixels}")
    if image.mode == "F":
        raise UnreadableImageError("floating-point pixels; convert it to 8 bits, or to 16-bit grey or RGB")
    with unreadable_on_failure():
        if isinstance(image, ImageFile):
            _refuse_what_pillow_changes(image)
        image.load()
        if image.mode.startswith("I"):
            pixels = rgb_of_array(np.asarray(image).clip(0, 65535).astype(np.uint16), bit_depth=bit_depth)
        else:
            pixels = np.asarray(eight_bit(image))
        return np.array(turned(pixels, orientation_of(image)), order="C")


def _scaled(image: NDArray[np.generic], bit_depth: int | None) -> NDArray[np.uint8]:
    return scaled(image.astype(np.uint16, copy=False), known_depth(bit_depth))


def _refuse_what_pillow_changes(image: ImageFile) -> None:
    """Of a file that is loaded already only its format is known."""
    raw_mode, largest = raw_mode_of(image)
    refuse_unknown_layouts(image, raw_mode)
    is_grey = image.mode.startswith("I")
    if (";16" in raw_mode and not is_grey) or largest > 255 or (is_grey and image.format == "PPM"):
        raise UnreadableImageError(
            "Pillow keeps 8 of 16 bits of each colour, and stretches a PPM's values; give the file's path or its bytes"
        )
