"""From the bytes of an image file to its pixels: the reference for every other decoder.

Pillow decides what a file's pixels are; the few rules on top of it are below. DALI is measured against this module.
"""

import re
import struct
import sys
from collections.abc import Generator
from contextlib import contextmanager
from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, TILELENGTH, TILEWIDTH, TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from resnet_dist.runtime.bit_depth import BAND_PIXELS, bands, known_depth, levels_of, scaled
from resnet_dist.runtime.errors import UnreadableImageError

# The readers are named rather than found by Image.open: none of these starts another program (EPS would), and the
# bound on pixels is the caller's instead of Pillow's process-wide one.
_READERS: tuple[tuple[re.Pattern[bytes], type[ImageFile]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), JpegImageFile),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImageFile),
    (re.compile(rb"BM"), BmpImageFile),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImageFile),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImageFile),
    (re.compile(rb"P[1-6]\s"), PpmImageFile),
    (re.compile(rb"GIF8[79]a"), GifImageFile),
)
_PNG_ORIENTATION_CARRIERS = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
_RED_GREEN_BLUE = [ord(letter) for letter in "RGB"]
# Pillow keeps the high byte of 16-bit colour; the same file read in the other byte order gives the low one.
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_CONVERT = "convert it to 8 bits, or to 16-bit grey or RGB"


MOST_FILE_BYTES = 512 * 2**20
"""Of a file that is read for its image, as in the scan before training."""


def decode_rgb(data: bytes, *, bit_depth: int | None, max_pixels: int) -> NDArray[np.uint8]:
    """Decode an image file: uint8 [height, width, 3] RGB, upright by EXIF (or XMP) orientation, the first frame.

    Alpha is dropped, not composited: colours under transparent pixels show. CMYK goes through Pillow's plain
    formula. 16-bit values are scaled by 255 / (2**bit_depth - 1), rounded and clipped; a PPM whose largest value is
    below 65535 says its own depth. Raises UnreadableImageError for anything else than a whole image of at most
    `max_pixels`, of which each may take four bytes in the file, and for 16 bits where `bit_depth` is None.
    """
    with unreadable_on_failure():
        image = _opened(data, max_pixels)
        raw_mode, largest = raw_mode_of(image)
        refuse_unknown_layouts(image, raw_mode)
        _refuse_deep(image, raw_mode, max_pixels)
        image.load()
        if image.mode.startswith("I"):
            depth = 16 if 255 < largest < 65535 else known_depth(bit_depth)
            pixels = np.repeat(scaled(np.asarray(image), depth)[:, :, None], 3, axis=2)
        elif ";16" in raw_mode and not raw_mode.startswith("BGR"):
            pixels = _scaled_colour(image, _other_bytes(_opened(data, max_pixels), raw_mode), known_depth(bit_depth))
        elif largest == 65535 and known_depth(bit_depth) != 16:
            raise UnreadableImageError(f"16-bit colour PPM with data.bit_depth={bit_depth}; save it as PNG or TIFF")
        else:
            pixels = np.asarray(eight_bit(image))
        # Pillow turns TIFF while loading and then forgets the tag: the orientation left is what is left to do.
        return np.array(turned(pixels, orientation_of(image)), order="C")


def image_header(data: bytes, *, max_pixels: int) -> tuple[int, int, bool]:
    """Upright width and height in pixels, and whether the file is plain: every decoder reads it alike.

    Plain is an 8-bit grey or RGB image without palette, alpha or CMYK, in JPEG, PNG or BMP, whose orientation, if
    it has one, is that of a JPEG's EXIF. Raises UnreadableImageError where the header cannot be read; the pixels
    may still be damaged.
    """
    with unreadable_on_failure():
        image = _opened(data, max_pixels)
        width, height = image.size
        raw_mode, _ = raw_mode_of(image)
        match image:
            case JpegImageFile():
                plain = raw_mode in ("L", "RGB") and not _is_rgb_coded(image)
            case PngImageFile():
                plain = raw_mode in ("L", "RGB") and "transparency" not in image.info and not image.is_animated
            case BmpImageFile():
                plain = (raw_mode, image.mode) in (("BGR", "RGB"), ("L", "L")) and image.tile[0].codec_name == "raw"
            case _:
                plain = False
        orientation = _written_orientation(image, data)
        if orientation != 1:
            plain = plain and isinstance(image, JpegImageFile) and b"tiff:Orientation" not in image.info.get("xmp", b"")
        if orientation >= 5 and not isinstance(image, TiffImageFile):
            width, height = height, width
        return width, height, plain


class ImageKind(NamedTuple):
    """How a file stores its image."""

    format: str
    """Pillow's name of it: JPEG, PNG, BMP, TIFF, WEBP, PPM or GIF."""
    mode: str
    """Pillow's name of how pixels are stored: L, RGB, RGBA, P, CMYK, I;16, and others."""
    bits: int
    """Of a channel: 8, or 16 where the file has more than 8."""
    orientation: int
    """EXIF's, 1..8; 1 is upright."""


def image_kind(data: bytes, *, max_pixels: int) -> ImageKind:
    """What the header tells. Raises UnreadableImageError where it cannot be read."""
    with unreadable_on_failure():
        image = _opened(data, max_pixels)
        raw_mode, largest = raw_mode_of(image)
        deep = image.mode.startswith("I") or ";16" in raw_mode or largest > 255
        return ImageKind(image.format or "", image.mode, 16 if deep else 8, _written_orientation(image, data))


@contextmanager
def unreadable_on_failure() -> Generator[None]:
    """Within, whatever Pillow raises becomes an UnreadableImageError: damaged files make it raise nearly anything."""
    try:
        yield
    except (UnreadableImageError, MemoryError):  # out of memory says nothing of the file
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UnreadableImageError(f"damaged image: {reason or type(error).__name__}") from error


def _opened(data: bytes, max_pixels: int) -> ImageFile:
    if not data:
        raise UnreadableImageError("empty file")
    for signature, reader in _READERS:
        if signature.match(data):
            image = reader(BytesIO(data))
            width, height = image.size
            if width * height > max_pixels:
                raise UnreadableImageError(f"{width}x{height} pixels are more than data.max_pixels={max_pixels}")
            _refuse_large_tiles(image, max_pixels)
            return image
    raise UnreadableImageError("no JPEG, PNG, BMP, TIFF, WebP, PPM or GIF")


def _refuse_large_tiles(image: ImageFile, max_pixels: int) -> None:
    """A tile is unpacked whole, however small the image that is cut out of it."""
    if isinstance(image, TiffImageFile):
        width, length = (_whole(image.tag_v2.get(tag)) for tag in (TILEWIDTH, TILELENGTH))
        if width * length > max(max_pixels, BAND_PIXELS):
            raise UnreadableImageError(f"tiles of {width}x{length} pixels are more than data.max_pixels={max_pixels}")


def _whole(value: object) -> int:
    """A tag's number; 0 where it is none."""
    return value if isinstance(value, int) else 0


def raw_mode_of(image: ImageFile) -> tuple[str, int]:
    """How the file stores its pixels, in Pillow's words, and the largest value that a PPM says it holds, else 0.

    Known only before `load`.
    """
    codec, args = (image.tile[0].codec_name, image.tile[0].args) if image.tile else ("", None)
    if isinstance(args, tuple):
        return str(args[0]), args[1] if codec in ("ppm", "ppm_plain") else 0
    return args or "", 0


def refuse_unknown_layouts(image: ImageFile, raw_mode: str) -> None:
    """Raise UnreadableImageError for pixels that are stored as Pillow does not read them rightly."""
    if image.mode == "F":
        raise UnreadableImageError(f"floating-point pixels; {_CONVERT}")
    if ";16" in raw_mode and raw_mode.partition(";")[0] not in ("I", "RGB", "RGBA", "RGBX", "BGR"):
        raise UnreadableImageError(f"16-bit pixels stored as {raw_mode}; {_CONVERT}")
    # Pillow reads separate planes of 16 bits as if they had 8.
    deep = isinstance(image, TiffImageFile) and max(image.tag_v2.get(BITSPERSAMPLE, (1,))) > 8
    if deep and not image.mode.startswith("I") and ";16" not in raw_mode:
        raise UnreadableImageError(f"16-bit pixels in separate planes; {_CONVERT}")


def _refuse_deep(image: ImageFile, raw_mode: str, max_pixels: int) -> None:
    """Of 16 bits, colour and alpha take more bytes than pixels of 8 bits ever do."""
    each = 2 * len(raw_mode.partition(";")[0]) if ";16" in raw_mode and not image.mode.startswith("I") else 4
    if image.width * image.height * each > max_pixels * 4:
        raise UnreadableImageError(
            f"{image.width}x{image.height} pixels of {each} bytes are more than data.max_pixels={max_pixels} of 4 bytes"
        )


def _scaled_colour(high: ImageFile, low: ImageFile, bit_depth: int) -> NDArray[np.uint8]:
    """Uint8 [height, width, 3] from an image that holds the high bytes and one that holds the low ones."""
    levels, (width, height) = levels_of(bit_depth), high.size
    colour = np.empty((height, width, 3), np.uint8)
    for start, stop in bands(width, height):
        above, below = (np.asarray(each.crop((0, start, width, stop)))[:, :, :3] for each in (high, low))
        colour[start:stop] = levels[above.astype(np.uint16) * np.uint16(256) + below]
    return colour


def _other_bytes(again: ImageFile, raw_mode: str) -> ImageFile:
    """The file opened `again`, loaded as if each 16-bit value began with its other byte."""
    other = raw_mode[:-1] + _OTHER_BYTE[raw_mode[-1]]
    again.tile = [
        tile._replace(args=other if isinstance(tile.args, str) else (other, *(tile.args or ())[1:]))
        for tile in again.tile
    ]
    again.load()
    return again


def eight_bit(image: Image.Image) -> Image.Image:
    """The image in 8-bit RGB, alpha dropped."""
    # A transparent palette goes to RGB by way of RGBA: straight there, Pillow warns of every such file.
    if image.mode == "P":
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation, 1..8; 1 where there is none or nobody could read it."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, ValueError, KeyError, IndexError, TypeError, struct.error):
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _written_orientation(image: ImageFile, data: bytes) -> int:
    """`orientation_of` a file that is not loaded. Pillow reads a PNG to its end in search of one, so that is done only
    where there may be one."""
    may_turn = not isinstance(image, PngImageFile) or any(name in data for name in _PNG_ORIENTATION_CARRIERS)
    return orientation_of(image) if may_turn else 1


def turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The image made upright; `orientation` says where its first row and column are."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _is_rgb_coded(image: JpegImageFile) -> bool:
    """Three components that are not YCbCr, which hardware decoders take for granted."""
    components = [layer[0] for layer in image.layer]
    return len(components) == 3 and (components == _RED_GREEN_BLUE or image.info.get("adobe_transform") == 0)
