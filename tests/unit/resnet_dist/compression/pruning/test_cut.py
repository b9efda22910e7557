"""What a cut network answers, and that it is a network like any other."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_dist.compression.pruning.channels import Channels, every_channel, highest
from resnet_dist.compression.pruning.cut import cut
from resnet_dist.export.formats.inference_module import InferenceModule
from resnet_dist.export.formats.onnx_graph import write_onnx
from resnet_dist.model.architectures import Arch
from resnet_dist.model.model_json import describe, rebuild
from resnet_dist.model.resnet import ResNetClassifier
from resnet_dist.model.structure import Structure
from resnet_dist.model.trunk import fold_batch_norm, split
from resnet_dist.model.widths import Widths
from resnet_dist.runtime.preprocess import Preprocess
from tests.laws import examples
from tests.small_networks import CLASSES, images, kill_the_rest, random_scores, random_widths, trained_looking

# layer4 has 512 channels in the first, so that a gate has hidden units to lose.
SMALL = [
    Structure("resnet50", widths=Widths.of("resnet50", 0.25)),
    Structure("resnet18", widths=Widths.of("resnet18", 0.5)),
    Structure("resnet34", widths=Widths.of("resnet34", 0.25)),
    Structure("resnext50_32x4d"),
]
STRUCTURES = [replace(small, squeeze_excite=gates) for small in SMALL for gates in (False, True)]


def error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


def random_keep(data: st.DataObject, structure: Structure) -> Channels[np.int64]:
    wanted = data.draw(random_widths(structure.arch, structure.layer_widths))
    return highest(random_scores(structure, data.draw(st.integers(0, 2**32))), wanted)


@settings(max_examples=examples(0.8))
@given(data=st.data(), structure=st.sampled_from(STRUCTURES))
@torch.no_grad()
def test_what_is_dead_can_go(data: st.DataObject, structure: Structure) -> None:
    keep = random_keep(data, structure)
    model = trained_looking(structure, seed=3)
    kill_the_rest(model, keep)
    smaller = cut(model, keep)
    assert smaller.structure.layer_widths == keep.widths(structure.arch)
    assert smaller.structure.squeeze_excite == structure.squeeze_excite
    assert error(smaller(images()), model(images())) < 1e-5


@torch.no_grad()
def test_what_is_alive_cannot_go() -> None:
    structure = SMALL[0]
    model, scores = trained_looking(structure), random_scores(structure, 0)
    keep = highest(
        scores, structure.layer_widths.with_stage(1, replace(structure.layer_widths.stages[1], channels=112))
    )
    assert error(cut(model, keep)(images()), model(images())) > 1e-3


@pytest.mark.parametrize("structure", [*STRUCTURES, Structure("resnet18"), Structure("resnet50", squeeze_excite=True)])
@torch.no_grad()
def test_keeping_everything_is_the_identity_to_the_bit(structure: Structure) -> None:
    model = trained_looking(structure)
    same = cut(model, every_channel(structure))
    assert same.structure == structure
    own = model.state_dict()
    assert list(same.state_dict()) == list(own)
    for name, value in same.state_dict().items():
        assert torch.equal(value, own[name])
        assert value.data_ptr() != own[name].data_ptr()
    assert torch.equal(same(images()), model(images()))


@settings(max_examples=examples(0.3))
@given(data=st.data(), structure=st.sampled_from(STRUCTURES))
def test_a_cut_of_a_cut_is_a_cut(data: st.DataObject, structure: Structure) -> None:
    model = trained_looking(structure)
    first = random_keep(data, structure)
    once = cut(model, first)
    second = random_keep(data, once.structure)
    streams = [outer[inner] for outer, inner in zip(first.streams, second.streams, strict=True)]
    both = Channels(
        (streams[0], streams[1], streams[2], streams[3]),
        {
            name: tuple(outer[inner] for outer, inner in zip(first.inner[name], groups, strict=True))
            for name, groups in second.inner.items()
        },
        None if first.own_stem is None else first.own_stem[second.stem],
    )
    twice, at_once = cut(once, second), cut(model, both)
    assert twice.structure == at_once.structure
    for name, value in twice.state_dict().items():
        # Which hidden units of a gate count most depends on the channels that are there.
        assert ".se." in name or torch.equal(value, at_once.state_dict()[name]), name


@settings(max_examples=examples(0.3))
@given(data=st.data(), structure=st.sampled_from(STRUCTURES), training=st.booleans())
def test_model_json_rebuilds_it(data: st.DataObject, structure: Structure, training: bool) -> None:
    model = trained_looking(structure).train(training)
    smaller = cut(model, random_keep(data, structure))
    assert smaller.training == training
    assert smaller.dropout == model.dropout
    again = rebuild(json.loads(json.dumps(describe(smaller))))
    assert again.structure == smaller.structure
    again.load_state_dict(smaller.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(again.eval()(images()), smaller.eval()(images()))


def with_dropped_blocks(arch: Arch, squeeze_excite: bool) -> ResNetClassifier:
    factor = 1.0 if arch.startswith("resnext") else 0.25
    structure = Structure(arch, squeeze_excite, Widths.of(arch, factor))
    wanted = structure.layer_widths
    for place, dropped in ((0, 1), (2, 1)):
        stage = wanted.stages[place]
        blocks = tuple(None if number == dropped else block for number, block in enumerate(stage.blocks))
        wanted = wanted.with_stage(place, replace(stage, blocks=blocks))
    smaller = cut(trained_looking(structure), highest(random_scores(structure, 0), wanted))
    assert "layer1.1.conv1.weight" not in smaller.state_dict()
    return smaller


@pytest.mark.parametrize("squeeze_excite", [False, True])
@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "resnext50_32x4d"])
@torch.no_grad()
def test_it_folds_and_splits(arch: Arch, squeeze_excite: bool) -> None:
    model = with_dropped_blocks(arch, squeeze_excite)
    expected = model(images())
    assert error(fold_batch_norm(model)(images()), expected) < 1e-4
    for depth in range(1, 6):
        trunk, suffix = split(model, depth)
        assert trunk is not None
        assert error(suffix.eval()(trunk(images())), expected) < 1e-4


@pytest.mark.parametrize(("arch", "squeeze_excite"), [("resnet18", True), ("resnet50", False)])
def test_it_exports(tmp_path: Path, arch: Arch, squeeze_excite: bool) -> None:
    preprocess = Preprocess(
        mode="whole",
        size=(32, 40),
        crop_fraction=0.875,
        pad_colour=(0, 0, 0),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        bit_depth=None,
        max_pixels=10**6,
    )
    network = InferenceModule(with_dropped_blocks(arch, squeeze_excite), preprocess)
    write_onnx(network, preprocess, tmp_path / "a.onnx", opset=20)
    onnx.checker.check_model(onnx.load(tmp_path / "a.onnx"))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 40, 3), dtype=np.uint8)
    session: Any = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: pixels})
    assert logits.shape == (3, CLASSES)
    with torch.no_grad():
        assert error(torch.from_numpy(logits), network(torch.from_numpy(pixels))) < 1e-4


def test_what_cannot_be_cut() -> None:
    basic, bottleneck = Structure("resnet18"), Structure("resnet50")
    model = trained_looking(basic)
    every, other = every_channel(basic), every_channel(bottleneck)

    def refused(keep: Channels[np.int64], match: str) -> None:
        with pytest.raises(ValueError, match=match):
            cut(model, keep)

    def of_layer1(positions: object) -> Channels[np.int64]:
        return replace(every, inner=every.inner | {"layer1.0": (np.array(positions),)})

    refused(replace(every, own_stem=every.stem), "the stem and layer1 of resnet18 are one group")
    refused(replace(every, inner=other.inner), r"channels of layer1\.2 are to stay; the network has no such block")
    refused(replace(every, inner=every.inner | {"layer1.0": ()}), r"layer1\.0 has 1 groups of inner channels, not 0")
    for positions in ([], [3, 2], [2, 2], [-1, 2], [5, 64], [1.0], [[1]]):
        refused(of_layer1(positions), r"layer1\.0 that stay are int64, ascend and lie in 0\.\.63")
    inner = {name: groups for name, groups in every.inner.items() if name != "layer4.0"}
    refused(replace(every, inner=inner), r"layer4\.0 changes shape")
    with pytest.raises(ValueError, match="are two groups"):
        cut(trained_looking(bottleneck), replace(other, own_stem=None))
    grouped = every_channel(Structure("resnext50_32x4d"))
    with pytest.raises(ValueError, match="grouped convolutions"):
        cut(trained_looking(Structure("resnext50_32x4d")), replace(grouped, own_stem=np.arange(32)))
