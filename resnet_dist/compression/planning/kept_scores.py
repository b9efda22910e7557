"""How much of a network's scores its options keep. Torch-free."""

import numpy as np
from numpy.typing import NDArray

from resnet_dist.compression.planning.options import BlockOptions, Coarse, Scores, WidthSpace
from resnet_dist.model.architectures import SHAPES


def highest_sum(scores: NDArray[np.float64], kept: NDArray[np.int64] | int) -> NDArray[np.float64]:
    """What the `kept` channels with the highest scores sum up to."""
    sums = np.concatenate(([0.0], np.cumsum(np.sort(scores)[::-1])))
    return sums[kept]


def block_values(space: WidthSpace, scores: Scores, block: BlockOptions) -> NDArray[np.float64]:
    """Of each option of a block, its absence included where that is one."""
    if space.choices.scope == "blocks":
        kept = np.array([scores.branches[block.name] if block.may_go else 0.0])
    else:
        pairs = zip(scores.inner[block.name], block.inner.T, strict=True)
        kept = np.sum([highest_sum(each, widths) for each, widths in pairs], axis=0)
    return np.append(kept, 0.0) if block.may_go else kept


def coarse_value(space: WidthSpace, scores: Scores, coarse: Coarse) -> float:
    """Of the channels of the stem and of the stages, where those may change; else 0."""
    if space.choices.scope != "all":
        return 0.0
    pairs = zip(scores.streams, coarse.channels, strict=True)
    streams = sum(float(highest_sum(each, kept)) for each, kept in pairs)
    is_tied = SHAPES[space.structure.arch].expansion == 1
    return streams if is_tied else streams + float(highest_sum(scores.stem, coarse.stem))


def check_scores(space: WidthSpace, scores: Scores) -> None:
    """Raises ValueError for scores of another network, or that are no numbers at least 0."""
    own = space.structure.layer_widths
    wanted: dict[str, int] = {"stem": own.stem}
    found: dict[str, NDArray[np.float64]] = {"stem": scores.stem}
    for place, (stage, each) in enumerate(zip(own.stages, scores.streams, strict=True), 1):
        wanted[f"layer{place}"], found[f"layer{place}"] = stage.channels, each
    for block in space.blocks:
        arrays = scores.inner.get(block.name, ())
        for number, width in enumerate(block.inner[-1]):
            wanted[f"{block.name}.conv{number + 1}"] = int(width)
        found |= {f"{block.name}.conv{number}": each for number, each in enumerate(arrays, 1)}
        if space.choices.scope == "blocks" and block.may_go and not scores.branches.get(block.name, -1.0) >= 0.0:
            raise ValueError(f"{block.name} has no score of its whole branch; score this network again")
    for name, width in wanted.items():
        array = found.get(name)
        if array is None or array.shape != (width,) or not (np.isfinite(array).all() and (array >= 0.0).all()):
            shape = "none" if array is None else f"{list(array.shape)}"
            raise ValueError(
                f"scores of {name} are {shape}; there are {width} channels, each with a finite score of at least 0: "
                "score this network again"
            )
