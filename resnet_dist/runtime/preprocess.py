"""From the pixels of an image to what the model sees: the contract `preprocess.json`.

Exported graphs are measured against this module.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ConfigDict, Field, TypeAdapter

from resnet_dist.runtime.errors import UnreadableImageError, brief
from resnet_dist.runtime.image_file import decode_rgb

MOST_SIDE = 16_384
"""Pixels of a side of the model's input."""

_Byte = Annotated[int, Field(ge=0, le=255)]
_Positive = Annotated[float, Field(gt=0.0)]
_Side = Annotated[int, Field(ge=1, le=MOST_SIDE)]
# What every contract of this schema says; a reader that does not know another value must not guess it.
_FIXED = {"schema": 1, "filter": "bilinear", "rounding": "nearest"}


@dataclass(frozen=True)
class Preprocess:
    """The contract `preprocess.json`: how an image becomes the model's input. Nothing of it is random."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    mode: Literal["whole", "letterbox", "center_crop"]
    """The whole image resized; its ratio kept and padded; or the shorter side resized and the centre cropped."""
    size: _Side | tuple[_Side, _Side]
    """Height and width of the result in pixels: one number where they are equal, else (height, width)."""
    crop_fraction: Annotated[float, Field(gt=0.0, le=1.0)]
    """With center_crop: `size` over the smallest resized image that covers what is cropped from it."""
    pad_colour: tuple[_Byte, _Byte, _Byte]
    """RGB of the padding, 0..255."""
    mean: tuple[float, float, float]
    """RGB mean subtracted from images in 0..1."""
    std: tuple[_Positive, _Positive, _Positive]
    """RGB standard deviation that images in 0..1 are divided by."""
    bit_depth: Annotated[int, Field(ge=9, le=16)] | None
    """Significant bits of 16-bit images; None refuses them."""
    max_pixels: Annotated[int, Field(ge=1)]
    """Larger images are refused."""

    @classmethod
    def from_json(cls, value: Any) -> "Preprocess":
        """The contract that `to_json` gave. Raises ValueError for anything else, such as another schema or key."""
        if not isinstance(value, Mapping):
            raise ValueError(f"it holds no object, but {brief(repr(value))}")
        given = cast("Mapping[str, Any]", value)
        for key, known in _FIXED.items():
            found = given.get(key)
            if type(found) is not type(known) or found != known:
                raise ValueError(f"{key}={brief(repr(found))} is unknown to this version, which reads {known!r}")
        fields = {key: part for key, part in given.items() if key not in _FIXED}
        return _ADAPTER.validate_json(json.dumps(fields), strict=True)

    def to_json(self) -> dict[str, Any]:
        """The contract as JSON values."""
        return _FIXED | asdict(self)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the result in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def read(self, data: bytes) -> NDArray[np.uint8]:
        """An image file's bytes -> uint8 [input height, input width, 3] RGB. Raises UnreadableImageError."""
        return self.apply(self.decode(data))

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """An image file's bytes -> uint8 [height, width, 3] upright RGB. Raises UnreadableImageError."""
        return decode_rgb(data, bit_depth=self.bit_depth, max_pixels=self.max_pixels)

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Uint8 [height, width, 3] upright RGB -> uint8 [input height, input width, 3].

        Antialiased bilinear, rounded to whole levels.

        Raises UnreadableImageError for a center_crop of an image so narrow that it would be resized beyond
        `max_pixels`.
        """
        height, width, _ = image.shape
        inner, offset = self._placed(width, height)
        if self.mode == "center_crop" and inner[0] * inner[1] > self.max_pixels:
            raise UnreadableImageError(
                f"{width}x{height} is too narrow for data.resize=center_crop: covering the model's size "
                f'makes {inner[0]}x{inner[1]}, above data.max_pixels={self.max_pixels}; use data.resize="letterbox"'
            )
        high, wide = self.input_size
        canvas = Image.new("RGB", (wide, high), self.pad_colour)
        canvas.paste(Image.fromarray(image).resize(inner, Image.Resampling.BILINEAR), offset)
        return np.array(canvas)

    def normalise(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Uint8 [N, height, width, 3] -> float32 of the same shape: divided by 255, less mean, over std."""
        unit = images.astype(np.float32) / np.float32(255)
        return (unit - np.asarray(self.mean, dtype=np.float32)) / np.asarray(self.std, dtype=np.float32)

    def _placed(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """(width, height) the image is resized to and (x, y) of it on the canvas; negative: the canvas lies inside."""
        canvas = self.input_size[1], self.input_size[0]
        match self.mode:
            case "whole":
                return canvas, (0, 0)
            case "letterbox":
                target = canvas
                by_width = width * target[1] >= height * target[0]
            case "center_crop":
                target = tuple(max(int(side / self.crop_fraction + 0.5), side) for side in canvas)
                by_width = width * target[1] < height * target[0]
        known, wanted = (width, target[0]) if by_width else (height, target[1])
        wide, high = (max((2 * side * wanted + known) // (2 * known), 1) for side in (width, height))
        if self.mode == "letterbox":
            return (wide, high), ((canvas[0] - wide) // 2, (canvas[1] - high) // 2)
        return (wide, high), (-((wide - canvas[0]) // 2), -((high - canvas[1]) // 2))


_ADAPTER = TypeAdapter(Preprocess)
