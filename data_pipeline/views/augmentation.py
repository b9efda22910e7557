"""What each sample looks like in each epoch, as numbers; the sources only apply them.

A view is drawn in numpy from (seed, epoch, sample key) and the image's oriented width and height. DALI on the CPU,
DALI on the GPU and the reference apply it in this order:

1. cut `window` out of the upright image (EXIF orientation applied);
2. resize it to `inner` with an antialiased bilinear filter, rounded to whole levels;
3. place it at `offset` on a canvas of `canvas` filled with the padding colour, or cut the canvas out of it where
   the offset is negative;
4. rotate by `quarter_turns` times 90 degrees counter-clockwise, then flip;
5. saturation around luma, contrast around 128, brightness; clipped to 0..255 and rounded;
6. subtract the mean and divide by the standard deviation;
7. set the `erase` box to zero, the mean colour.
"""

from dataclasses import dataclass, fields
from math import log

import numpy as np
from numpy.typing import NDArray

from data_pipeline.config import AugmentationConfig, DataConfig
from data_pipeline.views.randomness import Purpose, below, draw, unit

_DRAWS = 16
# Positions of each parameter's draw: fixed, so that switching one augmentation on leaves the others' values alone.
_AREA, _RATIO, _LEFT, _TOP, _HORIZONTAL, _VERTICAL, _TURN, _BRIGHTNESS, _CONTRAST, _SATURATION = range(10)
_ERASE, _ERASE_AREA, _ERASE_RATIO, _ERASE_LEFT, _ERASE_TOP = range(10, 15)


@dataclass(frozen=True)
class Views:
    """The parameters of N views; every array has N rows. Boxes are (x, y, width, height), sizes (width, height)."""

    window: NDArray[np.int32]
    """[N, 4] part of the upright image that is seen, in its pixels."""
    inner: NDArray[np.int32]
    """[N, 2] size the window is resized to."""
    offset: NDArray[np.int32]
    """[N, 2] (x, y) of the resized window on the canvas; negative: the canvas lies inside it."""
    canvas: NDArray[np.int32]
    """[N, 2] size before rotation."""
    quarter_turns: NDArray[np.int32]
    """[N] counter-clockwise rotations by 90 degrees, 0..3."""
    flips: NDArray[np.int32]
    """[N, 2] 0 or 1: (horizontal, vertical)."""
    colour: NDArray[np.float32]
    """[N, 3] factors of brightness, contrast and saturation; 1 changes nothing."""
    erase: NDArray[np.int32]
    """[N, 4] box set to zero in the final view; width 0 where there is none."""

    def __len__(self) -> int:
        return len(self.window)

    def rows(self, rows: NDArray[np.integer] | slice) -> "Views":
        """The views of some of the rows."""
        return Views(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def training_views(
    data: DataConfig,
    augmentation: AugmentationConfig,
    seed: int,
    epoch: int,
    keys: NDArray[np.uint64],
    sizes: NDArray[np.int32],
    occurrences: NDArray[np.uint64] | int = 0,
) -> Views:
    """Draw the views of samples in an epoch. `keys`: uint64 [N]; `sizes`: int32 [N, 2], upright width and height."""
    bits = draw(seed, Purpose.VIEW, epoch, keys, _DRAWS, occurrences)
    size = _width_and_height(data)
    turns = (bits[:, _TURN] >> np.uint64(62)).astype(np.int32) if augmentation.quarter_turns else _zeros(len(keys))
    match augmentation.window:
        case "random_resized_crop":
            windows = _random_windows(augmentation, bits, sizes)
            views = _filled(windows, size)
        case "whole":
            views = _filled(_whole_windows(sizes), size)
        case "letterbox":
            views = _letterboxed(sizes, size)
    window, inner, offset, canvas = views
    return Views(
        window=window,
        inner=inner,
        offset=offset,
        canvas=canvas,
        quarter_turns=turns,
        flips=np.stack(
            [
                unit(bits[:, _HORIZONTAL]) < augmentation.horizontal_flip,
                unit(bits[:, _VERTICAL]) < augmentation.vertical_flip,
            ],
            axis=1,
        ).astype(np.int32),
        colour=np.stack(
            [
                1.0 + strength * (2.0 * unit(bits[:, position]) - 1.0)
                for strength, position in (
                    (augmentation.brightness, _BRIGHTNESS),
                    (augmentation.contrast, _CONTRAST),
                    (augmentation.saturation, _SATURATION),
                )
            ],
            axis=1,
        ).astype(np.float32),
        erase=_erased_boxes(augmentation, bits, size),
    )


def evaluation_views(data: DataConfig, sizes: NDArray[np.int32]) -> Views:
    """The one view of each sample for validation, by `data.resize`: nothing random. `sizes`: int32 [N, 2]."""
    size = _width_and_height(data)
    match data.resize:
        case "whole":
            views = _filled(_whole_windows(sizes), size)
        case "letterbox":
            views = _letterboxed(sizes, size)
        case "center_crop":
            views = _centre_cropped(sizes, size, data.crop_fraction)
    window, inner, offset, canvas = views
    count = len(sizes)
    return Views(
        window=window,
        inner=inner,
        offset=offset,
        canvas=canvas,
        quarter_turns=_zeros(count),
        flips=_zeros(count, 2),
        colour=np.ones((count, 3), dtype=np.float32),
        erase=_zeros(count, 4),
    )


_Placement = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]


def _zeros(*shape: int) -> NDArray[np.int32]:
    return np.zeros(shape, dtype=np.int32)


def _whole_windows(sizes: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.concatenate([np.zeros_like(sizes), sizes], axis=1).astype(np.int32)


def _width_and_height(data: DataConfig) -> NDArray[np.int32]:
    """[2] the view's, in the order of boxes and sizes here; `data.input_size` has the height first."""
    height, width = data.input_size
    return np.array([width, height], dtype=np.int32)


def _canvases(count: int, size: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.tile(size, (count, 1))


def _filled(windows: NDArray[np.int32], size: NDArray[np.int32]) -> _Placement:
    canvas = _canvases(len(windows), size)
    return windows, canvas, np.zeros_like(canvas), canvas


def _letterboxed(sizes: NDArray[np.int32], size: NDArray[np.int32]) -> _Placement:
    """The largest that fits with its ratio kept, rounded half up, at least one pixel, in the middle of the canvas."""
    canvas = _canvases(len(sizes), size)
    inner = _scaled(sizes, size, _is_wider(sizes, size)).astype(np.int32)
    return _whole_windows(sizes), inner, (canvas - inner) // 2, canvas


def _centre_cropped(sizes: NDArray[np.int32], size: NDArray[np.int32], fraction: float) -> _Placement:
    """The smallest that covers `size` / fraction with its ratio kept; the centre of it is seen."""
    canvas = _canvases(len(sizes), size)
    target = np.maximum((size / fraction + 0.5).astype(np.int64), size)
    # A strip of a pixel may become longer than any image: it is refused by its size, which must not wrap around.
    inner = np.minimum(_scaled(sizes, target, ~_is_wider(sizes, target)), np.iinfo(np.int32).max).astype(np.int32)
    return _whole_windows(sizes), inner, -((inner - canvas) // 2), canvas


def _is_wider(sizes: NDArray[np.int32], size: NDArray[np.integer]) -> NDArray[np.bool_]:
    """[N] whether an image is at least as wide for its height as `size` is."""
    wide, high = sizes.astype(np.int64).T
    return wide * int(size[1]) >= high * int(size[0])


def _scaled(sizes: NDArray[np.int32], size: NDArray[np.integer], by_width: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[N, 2] images resized so that their width, or else their height, is that of `size`; the other rounded half up."""
    side = np.where(by_width, 0, 1)
    known = np.take_along_axis(sizes.astype(np.int64), side[:, None], axis=1)
    target = size.astype(np.int64)[side][:, None]
    return np.maximum((2 * sizes.astype(np.int64) * target + known) // (2 * known), 1)


def _random_windows(
    augmentation: AugmentationConfig, bits: NDArray[np.uint64], sizes: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Windows of a random share of the area and a random aspect ratio, both within the image.

    Inception's crop (arXiv:1409.4842) without its rejection loop: a side that would not fit is cut to the image's.
    """
    width, height = sizes[:, 0].astype(np.float64), sizes[:, 1].astype(np.float64)
    area = _between(unit(bits[:, _AREA]), augmentation.crop_area) * width * height
    ratio = _between_logs(unit(bits[:, _RATIO]), augmentation.crop_ratio)
    box = _box(area, ratio, width, height)
    return _placed(box, sizes, bits[:, _LEFT], bits[:, _TOP])


def _erased_boxes(
    augmentation: AugmentationConfig, bits: NDArray[np.uint64], size: NDArray[np.int32]
) -> NDArray[np.int32]:
    sizes = _canvases(len(bits), size)
    width, height = sizes.astype(np.float64).T
    area = _between(unit(bits[:, _ERASE_AREA]), augmentation.erase_area) * (width * height)
    ratio = _between_logs(unit(bits[:, _ERASE_RATIO]), augmentation.erase_ratio)
    boxes = _placed(_box(area, ratio, width, height), sizes, bits[:, _ERASE_LEFT], bits[:, _ERASE_TOP])
    boxes[unit(bits[:, _ERASE]) >= augmentation.erase] = 0
    return boxes


def _box(
    area: NDArray[np.float64], ratio: NDArray[np.float64], width: NDArray[np.float64], height: NDArray[np.float64]
) -> NDArray[np.int32]:
    """[N, 2] whole sides of a box of that area and aspect ratio (width over height), at least one pixel."""
    wide = np.clip(np.floor(np.sqrt(area * ratio) + 0.5), 1.0, width)
    high = np.clip(np.floor(np.sqrt(area / ratio) + 0.5), 1.0, height)
    return np.stack([wide, high], axis=1).astype(np.int32)


def _placed(
    box: NDArray[np.int32], sizes: NDArray[np.int32], left: NDArray[np.uint64], top: NDArray[np.uint64]
) -> NDArray[np.int32]:
    """[N, 4] the box at one of the places where it lies within the image, each equally likely."""
    room = sizes - box + 1
    corner = np.stack([below(left, room[:, 0]), below(top, room[:, 1])], axis=1)
    return np.concatenate([corner, box], axis=1).astype(np.int32)


def _between(numbers: NDArray[np.float64], bounds: tuple[float, float]) -> NDArray[np.float64]:
    low, high = bounds
    return low + (high - low) * numbers


def _between_logs(numbers: NDArray[np.float64], bounds: tuple[float, float]) -> NDArray[np.float64]:
    """Log-uniform between the bounds.

    The exponential is a Taylor series in float64 products and sums, which IEEE 754 fixes to the bit: a libm whose
    last digit differs would move a window by a pixel on some machine. Bounds within 1/8 .. 8 keep |x| below 2.1,
    where 24 terms leave an error below 1e-15.
    """
    low, high = (log(bound) for bound in bounds)
    exponent = low + (high - low) * numbers
    series = np.ones_like(exponent)
    for term in range(24, 0, -1):
        series = 1.0 + exponent / float(term) * series
    return series
