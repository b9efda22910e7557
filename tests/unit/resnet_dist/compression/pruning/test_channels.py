"""Groups of channels: which there are, what is chosen of them, and what cannot be chosen."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_dist.compression.pruning.channels import (
    Channels,
    every_channel,
    highest,
    identity_blocks,
    summed_over_norms,
)
from resnet_dist.model.architectures import ARCHS, SHAPES, Arch
from resnet_dist.model.layers import layers
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths
from tests.small_networks import random_scores, random_widths

ARCH = st.sampled_from(ARCHS)


@given(data=st.data(), arch=ARCH)
def test_every_channel_has_the_networks_widths(data: st.DataObject, arch: Arch) -> None:
    widths = data.draw(random_widths(arch))
    every = every_channel(Structure(arch, widths=widths))
    assert every.widths(arch) == widths
    assert (every.own_stem is None) == (SHAPES[arch].expansion == 1)
    assert len(every.stem) == widths.stem


@given(data=st.data(), arch=ARCH)
def test_each_norm_writes_to_one_group(data: st.DataObject, arch: Arch) -> None:
    structure = Structure(arch, widths=data.draw(random_widths(arch)))
    outputs = {_norm(layer.name): layer.outputs for layer in layers(structure, 3) if not layer.is_linear}
    written: list[str] = []

    def ones(norm: str) -> np.ndarray:
        written.append(norm)
        return np.ones(outputs[norm])

    scores = summed_over_norms(structure, ones)
    assert sorted(written) == sorted(outputs)
    groups = [*scores.streams, *(group for inner in scores.inner.values() for group in inner)]
    groups += [] if scores.own_stem is None else [scores.own_stem]
    assert sum(group.sum() for group in groups) == sum(outputs.values())


def _norm(convolution: str) -> str:
    return f"{convolution}.1" if convolution.endswith("downsample") else convolution.replace("conv", "bn")


@given(data=st.data(), arch=ARCH, seed=st.integers(0, 2**32))
def test_the_highest_are_chosen_as_many_as_are_wanted(data: st.DataObject, arch: Arch, seed: int) -> None:
    source = Structure(arch, widths=data.draw(random_widths(arch)))
    wanted = data.draw(random_widths(arch, source.widths))
    scores = random_scores(source, seed)
    chosen = highest(scores, wanted)
    assert chosen.widths(arch) == wanted
    pairs = [(chosen.stem, scores.stem), *zip(chosen.streams, scores.streams, strict=True)]
    for name, groups in chosen.inner.items():
        pairs += zip(groups, scores.inner[name], strict=True)
    for positions, group in pairs:
        assert positions.dtype == np.int64
        assert (np.diff(positions) > 0).all()
        assert group[positions].min() > np.delete(group, positions).max(initial=0.0)


def test_of_equal_scores_the_first_are_chosen() -> None:
    scores = summed_over_norms(Structure("resnet50"), lambda norm: np.zeros(_width(norm)))
    chosen = highest(scores, Widths.of("resnet50", 0.5))
    groups = [chosen.stem, *chosen.streams, *(group for inner in chosen.inner.values() for group in inner)]
    assert all(np.array_equal(group, np.arange(len(group))) for group in groups)


def _width(norm: str) -> int:
    outputs = {_norm(layer.name): layer.outputs for layer in layers(Structure("resnet50"), 3)}
    return outputs[norm]


@pytest.mark.parametrize("arch", ARCHS)
def test_blocks_that_can_be_left_out(arch: Arch) -> None:
    blocks = dict(identity_blocks(Structure(arch)))
    shape = SHAPES[arch]
    assert len(blocks) == sum(shape.blocks) - (3 if shape.expansion == 1 else 4)
    assert blocks["layer1.1"] == ("layer1.1.bn2" if shape.expansion == 1 else "layer1.1.bn3")


def refused(change: Channels[np.float64], widths: Widths, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        highest(change, widths)


def test_what_cannot_be_chosen() -> None:
    half = Structure("resnet18", widths=Widths.of("resnet18", 0.5))
    scores, widths = random_scores(half, 0), half.layer_widths
    own = Widths.of("resnet18")
    refused(scores, own, "a width of 64 for layer1, which has 32 channels")
    refused(scores, replace(widths, stem=16), "a stem of 16 channels and a layer1 of 32")
    inner = {name: groups for name, groups in scores.inner.items() if name != "layer3.1"}
    refused(replace(scores, inner=inner), widths, r"layer3\.1 with 1 inner widths, of which there are no scores")
    refused(replace(scores, inner=scores.inner | {"layer3.1": ()}), widths, r"layer3\.1 with 1 inner widths")
    scores.streams[2][5] = np.nan
    refused(scores, widths, "scores of layer3 are not finite")


def test_channels_that_an_architecture_does_not_have() -> None:
    every = every_channel(Structure("resnet50"))
    with pytest.raises(ValueError, match=r"channels of layer1\.3, which resnet50 does not have"):
        replace(every, inner=every.inner | {"layer1.3": every.inner["layer1.0"]}).widths("resnet50")
    inner = {name: groups for name, groups in every.inner.items() if name != "layer2.0"}
    with pytest.raises(ValueError, match=r"layer2\.0 changes shape and cannot be left out"):
        replace(every, inner=inner).widths("resnet50")
