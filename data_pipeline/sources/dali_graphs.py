"""One DALI graph for every use: training and evaluation, on the CPU and on the GPU.

Parameters come in from outside, sample by sample, so that a graph holds nothing random. Operators that a use can
never need are left out.
"""

# DALI's operators are generated and carry no useful types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateImportUsage=false, reportCallIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import Pipeline, fn, types

from data_pipeline.config import AugmentationConfig, DataConfig
from data_pipeline.views.augmentation import Views

ENCODED = "encoded"

Resize = Callable[[list[Any], list[Any], list[Any]], list[Any]]
"""From a batch's images uint8 [height, width, 3], widths and heights to the resized images."""


@dataclass(frozen=True)
class Operators:
    """Which steps of a view a graph must be able to apply."""

    canvas: bool
    turns: bool
    vertical_flips: bool
    horizontal_flips: bool
    colour: bool
    erase: bool

    @classmethod
    def of_training(cls, augmentation: AugmentationConfig) -> "Operators":
        """What the augmentation may draw."""
        return cls(
            canvas=augmentation.window == "letterbox",
            turns=augmentation.quarter_turns,
            vertical_flips=augmentation.vertical_flip > 0.0,
            horizontal_flips=augmentation.horizontal_flip > 0.0,
            colour=max(augmentation.brightness, augmentation.contrast, augmentation.saturation) > 0.0,
            erase=augmentation.erase > 0.0,
        )

    @classmethod
    def of_evaluation(cls, data: DataConfig) -> "Operators":
        """What the one evaluation view needs."""
        return cls(
            canvas=data.resize != "whole",
            turns=False,
            vertical_flips=False,
            horizontal_flips=False,
            colour=False,
            erase=False,
        )


def build_graph(
    data: DataConfig,
    operators: Operators,
    batch_size: int,
    threads: int,
    device_id: int | None,
    depth: int,
    resize: Resize | None,
) -> Pipeline:
    """A built pipeline whose output is float32 [height, width, 3] for each sample, the size that of its view.

    On the CPU where `device_id` is None. Fed by name: ENCODED (uint8 bytes of a file) and what `parameters` gives.
    `batch_size` is the largest batch; `depth` runs may be scheduled ahead. `resize` replaces DALI's on the CPU.
    """
    pipeline = Pipeline(
        batch_size=batch_size, num_threads=threads, device_id=device_id, prefetch_queue_depth=depth, seed=0
    )
    with pipeline:
        encoded = fn.external_source(name=ENCODED, dtype=types.UINT8, ndim=1, no_copy=True)
        images = fn.decoders.image_slice(
            encoded,
            _input("window_start", types.INT32),
            _input("window_shape", types.INT32),
            axis_names="WH",
            device="cpu" if device_id is None else "mixed",
            output_type=types.RGB,
            jpeg_fancy_upsampling=True,  # what the CPU does
        )
        width, height = _input("inner_width", types.FLOAT, 0), _input("inner_height", types.FLOAT, 0)
        if resize is None:
            images = fn.resize(images, resize_x=width, resize_y=height, interp_type=types.INTERP_LINEAR, antialias=True)
        else:
            images = fn.python_function(
                images, width, height, function=resize, batch_processing=True, output_layouts="HWC"
            )
        pipeline.set_outputs(_viewed(images, data, operators))
    pipeline.build()
    return pipeline


def _viewed(images: Any, data: DataConfig, operators: Operators) -> Any:
    """The steps of a view behind the resize, in the order of `data_pipeline.views.augmentation`."""
    if operators.canvas:
        images = fn.slice(
            images,
            _input("canvas_start", types.INT32),
            _input("canvas_shape", types.INT32),
            axis_names="WH",
            out_of_bounds_policy="pad",
            fill_values=list(data.pad_colour),
        )
    if operators.turns:
        # A quarter turn takes pixel centres to pixel centres: the nearest one is the very pixel.
        images = fn.rotate(
            images, angle=_input("angle", types.FLOAT, 0), interp_type=types.INTERP_NN, keep_size=True, fill_value=0
        )
    if operators.vertical_flips:
        images = fn.flip(images, horizontal=0, vertical=_input("vertical", types.INT32, 0))
    if operators.colour:
        images = fn.color_twist(
            images,
            brightness=_input("brightness", types.FLOAT, 0),
            contrast=_input("contrast", types.FLOAT, 0),
            saturation=_input("saturation", types.FLOAT, 0),
        )
    images = fn.crop_mirror_normalize(
        images,
        dtype=types.FLOAT,
        output_layout="HWC",
        mean=[255.0 * number for number in data.mean],
        std=[255.0 * number for number in data.std],
        mirror=_input("horizontal", types.INT32, 0) if operators.horizontal_flips else 0,
    )
    if operators.erase:
        images = fn.erase(
            images,
            anchor=_input("erase_anchor", types.FLOAT),
            shape=_input("erase_shape", types.FLOAT),
            axis_names="WH",
            normalized_anchor=False,
            normalized_shape=False,
            fill_value=0.0,
        )
    return images


def parameters(views: Views, operators: Operators) -> dict[str, NDArray[Any]]:
    """What a graph of these operators is fed for some views, by input name; each [B] or [B, 2]."""
    fed: dict[str, NDArray[Any]] = {
        "window_start": views.window[:, :2],
        "window_shape": views.window[:, 2:],
        "inner_width": views.inner[:, 0].astype(np.float32),
        "inner_height": views.inner[:, 1].astype(np.float32),
    }
    if operators.canvas:
        fed |= {"canvas_start": -views.offset, "canvas_shape": views.canvas}
    if operators.turns:
        fed["angle"] = views.quarter_turns.astype(np.float32) * np.float32(90.0)
    if operators.vertical_flips:
        fed["vertical"] = views.flips[:, 1]
    if operators.colour:
        fed |= {name: views.colour[:, i] for i, name in enumerate(("brightness", "contrast", "saturation"))}
    if operators.horizontal_flips:
        fed["horizontal"] = views.flips[:, 0]
    if operators.erase:
        fed |= {
            "erase_anchor": views.erase[:, :2].astype(np.float32),
            "erase_shape": views.erase[:, 2:].astype(np.float32),
        }
    return {name: np.ascontiguousarray(values) for name, values in fed.items()}


def _input(name: str, dtype: Any, ndim: int = 1) -> Any:
    return fn.external_source(name=name, dtype=dtype, ndim=ndim)
