"""What a view is, by definition: Pillow and numpy, one image after the other."""

from collections.abc import Generator, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from data_pipeline.config import DataConfig
from data_pipeline.listing.samples import Decode, Samples, read_file
from data_pipeline.sources.batching import Request
from data_pipeline.views.augmentation import Views

_LUMA = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601's weights of red, green and blue."""


def apply_view(image: NDArray[np.uint8], views: Views, row: int, data: DataConfig) -> NDArray[np.float32]:
    """One view of an upright RGB image uint8 [height, width, 3]: float32 [*data.input_size, 3], normalised.

    The steps are those that `data_pipeline.views.augmentation` lists.
    """
    x, y, width, height = (int(number) for number in views.window[row])
    window = Image.fromarray(image[y : y + height, x : x + width])
    inner = window.resize((int(views.inner[row, 0]), int(views.inner[row, 1])), Image.Resampling.BILINEAR)
    canvas = Image.new("RGB", (int(views.canvas[row, 0]), int(views.canvas[row, 1])), data.pad_colour)
    canvas.paste(inner, (int(views.offset[row, 0]), int(views.offset[row, 1])))
    pixels = np.rot90(np.asarray(canvas), int(views.quarter_turns[row]))
    if views.flips[row, 0]:
        pixels = pixels[:, ::-1]
    if views.flips[row, 1]:
        pixels = pixels[::-1]
    brightness, contrast, saturation = (float(factor) for factor in views.colour[row])
    if (brightness, contrast, saturation) != (1.0, 1.0, 1.0):
        grey = (pixels @ _LUMA)[..., None]
        changed = grey + saturation * (pixels - grey)
        changed = brightness * (128.0 + contrast * (changed - 128.0))
        pixels = np.clip(np.rint(changed), 0.0, 255.0)
    mean, std = np.array(data.mean) * 255.0, np.array(data.std) * 255.0
    normalised = ((pixels - mean) / std).astype(np.float32)
    left, top, erased_width, erased_height = (int(number) for number in views.erase[row])
    normalised[top : top + erased_height, left : left + erased_width] = 0.0
    return normalised


class ReferenceRenderer:
    """Decodes with `decode` and applies views by their definition."""

    def __init__(self, data: DataConfig, samples: Samples, device: torch.device, decode: Decode) -> None:
        self._data = data
        self._samples = samples
        self._device = device
        self._decode = decode

    def render(self, requests: Iterator[Request]) -> Generator[torch.Tensor]:
        """Images of each request, see `Renderer`."""
        for request in requests:
            images = [
                apply_view(self._decode(read_file(self._samples, row)), request.views, position, self._data)
                for position, row in enumerate(request.rows.tolist())
            ]
            yield torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(self._device)

    def close(self) -> None:
        """Nothing is held."""
