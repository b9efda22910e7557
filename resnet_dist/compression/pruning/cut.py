"""A network without some of its channels and blocks: the rows and columns of its weights that stay.

Where all that was cut gave zero, the smaller network answers as the larger one does, to rounding.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from resnet_dist.compression.pruning.channels import Channels, every_channel
from resnet_dist.model.architectures import SHAPES
from resnet_dist.model.layers import hidden_units
from resnet_dist.model.resnet import ResNetClassifier
from resnet_dist.model.structure import Structure

Positions = NDArray[np.int64]


def cut(model: ResNetClassifier, keep: Channels[np.int64]) -> ResNetClassifier:
    """A new network that has the channels and blocks of `keep` only, on the model's device and in its mode.

    Gates get as many hidden units as their channels ask for: those with the largest product of the norms of what leads
    to them and from them. Raises ValueError for positions that the model does not have, or not in ascending order, and
    for widths that its architecture cannot have.
    """
    _check(keep, model.structure)
    structure = cut_structure(model.structure, keep)
    smaller = ResNetClassifier(structure, model.fc.out_features, model.dropout)
    smaller.load_state_dict(cut_weights(model.state_dict(), model.structure, keep))
    return smaller.to(model.fc.weight.device).train(model.training)


def cut_structure(structure: Structure, keep: Channels[np.int64]) -> Structure:
    """What `structure` is without the other channels and blocks. Raises ValueError for what cannot be."""
    widths = keep.widths(structure.arch)
    if widths == structure.layer_widths:
        return structure
    return Structure(structure.arch, structure.squeeze_excite, widths)


def cut_weights(
    weights: Mapping[str, torch.Tensor], structure: Structure, keep: Channels[np.int64]
) -> dict[str, torch.Tensor]:
    """The state_dict of the smaller network from that of a network of this `structure`. Nothing is shared."""
    found: dict[str, torch.Tensor] = {}
    for layer, outputs, inputs in _layers(structure, keep):
        for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            value = weights.get(f"{layer}.{part}")
            if value is None:
                continue
            if outputs is not None and value.ndim > 0:
                value = _taken(value, 0, outputs)
            if inputs is not None and value.ndim > 1:
                value = _taken(value, 1, inputs)
            found[f"{layer}.{part}"] = value.clone()
    if structure.squeeze_excite:
        for name, stream, _ in _blocks(structure, keep):
            found |= _cut_gate(weights, f"{name}.se", stream)
    return found


def _layers(structure: Structure, keep: Channels[np.int64]) -> Iterator[tuple[str, Positions | None, Positions | None]]:
    """Name of each convolution, BatchNorm and of the head, with the outputs and inputs that stay; None: all."""
    is_grouped = SHAPES[structure.arch].groups > 1
    yield "conv1", keep.stem, None
    yield "bn1", keep.stem, None
    channels = keep.stem
    for name, stream, has_downsample in _blocks(structure, keep):
        inner = keep.inner[name]
        for place, (before, after) in enumerate(zip([channels, *inner], [*inner, stream], strict=True), start=1):
            # A grouped convolution keeps its widths, and its inputs are numbered within a group.
            yield f"{name}.conv{place}", after, None if is_grouped and place == 2 else before
            yield f"{name}.bn{place}", after, None
        if has_downsample:
            yield f"{name}.downsample.0", stream, channels
            yield f"{name}.downsample.1", stream, None
        channels = stream
    yield "fc", None, channels


def _blocks(structure: Structure, keep: Channels[np.int64]) -> Iterator[tuple[str, Positions, bool]]:
    """Each block that stays, in order: its name, the positions of its residual sum, whether its shortcut convolves."""
    for place, (stage, stream) in enumerate(zip(structure.layer_widths.stages, keep.streams, strict=True)):
        for number, _ in stage.kept:
            name = f"layer{place + 1}.{number}"
            if name in keep.inner:
                yield name, stream, not SHAPES[structure.arch].is_identity(place, number)


def _cut_gate(weights: Mapping[str, torch.Tensor], gate: str, channels: Positions) -> dict[str, torch.Tensor]:
    reduce = _taken(weights[f"{gate}.reduce.weight"], 1, channels)
    expand = _taken(weights[f"{gate}.expand.weight"], 0, channels)
    # Squares order as norms do. By NumPy, whose sums do not depend on the number of threads.
    squares = [np.square(value.double().cpu().numpy()) for value in (reduce, expand)]
    strength = squares[0].sum(1) * squares[1].sum(0)
    units = np.sort(np.argsort(-strength, kind="stable")[: hidden_units(len(channels))])
    return {
        f"{gate}.reduce.weight": _taken(reduce, 0, units),
        f"{gate}.reduce.bias": _taken(weights[f"{gate}.reduce.bias"], 0, units),
        f"{gate}.expand.weight": _taken(expand, 1, units),
        f"{gate}.expand.bias": _taken(weights[f"{gate}.expand.bias"], 0, channels),
    }


def _taken(value: torch.Tensor, dimension: int, positions: Positions) -> torch.Tensor:
    return value.index_select(dimension, torch.from_numpy(positions).to(value.device))


def _check(keep: Channels[np.int64], structure: Structure) -> None:
    """Raises ValueError unless `keep` has positions of channels that are there."""
    own = every_channel(structure)
    if (keep.own_stem is None) != (own.own_stem is None):
        rule = "are one group" if own.own_stem is None else "are two groups"
        raise ValueError(f"the stem and layer1 of {structure.arch} {rule}; own_stem says otherwise")
    if absent := keep.inner.keys() - own.inner.keys():
        raise ValueError(f"channels of {min(absent)} are to stay; the network has no such block")
    groups = [("the stem", keep.stem, own.stem)]
    groups += [(f"layer{n}", *pair) for n, pair in enumerate(zip(keep.streams, own.streams, strict=True), start=1)]
    for name, inner in keep.inner.items():
        if len(inner) != len(own.inner[name]):
            raise ValueError(f"{name} has {len(own.inner[name])} groups of inner channels, not {len(inner)}")
        groups += [(name, *pair) for pair in zip(inner, own.inner[name], strict=True)]
    for where, positions, all_ in groups:
        ascends = positions.ndim == 1 and len(positions) > 0 and bool((np.diff(positions) > 0).all())
        if positions.dtype != np.int64 or not ascends or positions[0] < 0 or positions[-1] >= len(all_):
            raise ValueError(
                f"positions of {where} that stay are int64, ascend and lie in 0..{len(all_) - 1}; these are "
                f"{positions.dtype} {positions.tolist()[:8]}"
            )
