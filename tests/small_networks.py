"""Networks of random widths that look trained, and parts of them that count for nothing."""

from typing import cast

import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn

from resnet_dist.compression.pruning.channels import Channels, every_channel
from resnet_dist.model.architectures import SHAPES, Arch
from resnet_dist.model.layers import hidden_units
from resnet_dist.model.resnet import ResNetClassifier, build_model
from resnet_dist.model.squeeze_excite import SqueezeExcite
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Block, StageWidths, Widths

CLASSES = 5


@st.composite
def random_widths(draw: st.DrawFn, arch: Arch, within: Widths | None = None) -> Widths:
    """Any that `arch` can have, at most those of `within`."""
    shape, within = SHAPES[arch], within or Widths.of(arch)

    def width(most: int) -> int:
        return most if shape.groups > 1 else draw(st.integers(1, most))

    def block(place: int, number: int, most: Block) -> Block:
        if most is None or (shape.is_identity(place, number) and draw(st.booleans())):
            return None
        return tuple(map(width, most))

    one, two, three, four = (
        StageWidths(width(stage.channels), tuple(block(place, n, most) for n, most in enumerate(stage.blocks)))
        for place, stage in enumerate(within.stages)
    )
    return Widths(one.channels if shape.expansion == 1 else width(within.stem), (one, two, three, four))


def trained_looking(structure: Structure, seed: int = 0) -> ResNetClassifier:
    """In evaluation mode, with BatchNorm and gates of which every number counts."""
    model = build_model(structure, CLASSES, 0.1, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                for values in (part.running_mean, part.bias):
                    cast("torch.Tensor", values).normal_(0, 0.2, generator=generator)
                for values in (part.running_var, part.weight):
                    cast("torch.Tensor", values).uniform_(0.5, 1.5, generator=generator)
            elif isinstance(part, SqueezeExcite):
                for values in part.parameters():
                    values.add_(torch.randn(values.shape, generator=generator), alpha=0.02)
    return model.eval()


def images(count: int = 2, seed: int = 1, size: int = 32) -> torch.Tensor:
    return torch.randn((count, 3, size, size), generator=torch.Generator().manual_seed(seed))


def random_scores(structure: Structure, seed: int) -> Channels[np.float64]:
    """Of all channels, without equal ones."""
    generator, every = np.random.default_rng(seed), every_channel(structure)

    def score(positions: np.ndarray) -> np.ndarray:
        return generator.permutation(len(positions)) + 1.0

    one, two, three, four = map(score, every.streams)
    inner = {name: tuple(map(score, groups)) for name, groups in every.inner.items()}
    return Channels((one, two, three, four), inner, None if every.own_stem is None else score(every.own_stem))


@torch.no_grad()
def kill_the_rest(model: ResNetClassifier, keep: Channels[np.int64]) -> None:
    """Set what is not in `keep` to zero where BatchNorm gives it: in all layers that write to a group, and in gates.

    So many hidden units of a gate die as are too many for the channels that stay.
    """
    parts = {name: part for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d)}
    alive = {"bn1": keep.stem}
    for name in every_channel(model.structure).inner:
        stream = keep.streams[int(name[5]) - 1]
        count = sum(norm.startswith(f"{name}.bn") for norm in parts)
        groups = [*keep.inner[name], stream] if name in keep.inner else [np.array([], np.int64)] * count
        alive |= {f"{name}.bn{place}": group for place, group in enumerate(groups, start=1)}
        alive[f"{name}.downsample.1"] = stream
        gate = getattr(model.get_submodule(name), "se", None)
        if isinstance(gate, SqueezeExcite):
            dead = torch.arange(gate.reduce.out_features - hidden_units(len(stream)))
            gate.expand.weight[:, dead] = 0.0
    for name, part in parts.items():
        dead = np.setdiff1d(np.arange(part.num_features), alive[name])
        part.weight[dead] = 0.0
        part.bias[dead] = 0.0
