"""Scores of no network, to choose widths by."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resnet_dist.model.architectures import SHAPES
from resnet_dist.model.structure import Structure


@dataclass(frozen=True)
class DrawnScores:
    """As `resnet_dist.compression.planning.options.Scores`."""

    stem: NDArray[np.float64]
    streams: tuple[NDArray[np.float64], ...]
    inner: dict[str, tuple[NDArray[np.float64], ...]]
    branches: dict[str, float]


def drawn_scores(structure: Structure, seed: int) -> DrawnScores:
    """Those of a few channels are far above the others', as in trained networks."""
    draw, widths, shape = np.random.default_rng(seed), structure.layer_widths, SHAPES[structure.arch]
    inner, branches = dict[str, tuple[NDArray[np.float64], ...]](), dict[str, float]()
    for place, stage in enumerate(widths.stages):
        for number, block in stage.kept:
            inner[f"layer{place + 1}.{number}"] = tuple(draw.exponential(size=width) ** 2 for width in block)
            if shape.is_identity(place, number):
                branches[f"layer{place + 1}.{number}"] = float(draw.exponential() * 10)
    streams = tuple(3 * draw.exponential(size=stage.channels) ** 2 for stage in widths.stages)
    stem = streams[0] if shape.expansion == 1 else draw.exponential(size=widths.stem)
    return DrawnScores(stem, streams, inner, branches)
