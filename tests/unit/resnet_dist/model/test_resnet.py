"""The network, its first weights, its stages and model.json."""

import json

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_dist.errors import RunError
from resnet_dist.model.architectures import ARCHS, Arch
from resnet_dist.model.freezing import frozen_stages, stage_of, stage_sizes, trainable_parameters
from resnet_dist.model.model_json import describe, rebuild, structure_of
from resnet_dist.model.resnet import STAGES, ResNetClassifier, build_model, classify, pool
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths
from tests.laws import examples
from tests.small_networks import random_widths

torch.set_num_threads(1)


@pytest.mark.parametrize("arch", ARCHS)
def test_names_and_shapes_are_torchvisions(arch: Arch) -> None:
    with torch.device("meta"):
        reference = torchvision.models.get_model(arch, weights=None, num_classes=7)
    own = ResNetClassifier(Structure(arch), 7, 0.0).state_dict()
    expected = {name: (value.shape, value.dtype) for name, value in reference.state_dict().items()}
    assert {name: (value.shape, value.dtype) for name, value in own.items()} == expected
    assert list(own) == list(reference.state_dict())


def test_computes_what_torchvision_computes() -> None:
    model = build_model(Structure("resnet18"), 5, 0.0, seed=3).eval()
    reference = torchvision.models.resnet18(num_classes=5).eval()
    reference.load_state_dict(model.state_dict())
    images = torch.randn((2, 3, 40, 56), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model(images), reference(images), rtol=1e-5, atol=1e-6)


def test_first_weights_are_the_seeds_and_leave_global_generators_alone() -> None:
    built = []
    for global_seed, seed in ((0, 5), (1, 5), (1, 6)):
        torch.manual_seed(global_seed)
        torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002 - what is watched
        built.append(build_model(Structure("resnet18"), 4, 0.1, seed).state_dict())
        assert torch.equal(torch.get_rng_state(), torch_before)
        numpy_after = np.random.get_state()  # noqa: NPY002
        assert all(np.array_equal(a, b) for a, b in zip(numpy_before, numpy_after, strict=True))
    first, again, other = built
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    drawn = [name for name, value in first.items() if value.ndim > 1]
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_first_weights_are_distributed_as_torchvisions() -> None:
    own, reference = build_model(Structure("resnet18"), 1000, 0.0, seed=0), torchvision.models.resnet18()
    for (name, value), theirs in zip(own.named_parameters(), reference.parameters(), strict=True):
        if value.ndim == 1 and name != "fc.bias":
            assert torch.equal(value, theirs), name
        else:
            assert value.std().item() == pytest.approx(theirs.std().item(), rel=0.1), name
            assert abs(value.mean().item()) < 5 * theirs.std().item() / value.numel() ** 0.5, name
    for name, buffer in own.named_buffers():
        assert torch.equal(buffer, dict(reference.named_buffers())[name])


def test_keep_scales_pooled_features() -> None:
    model = build_model(Structure("resnet18"), 3, 0.5, seed=0).eval()
    images = torch.randn((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model(images), model(images, torch.ones(2, 512)))
        assert torch.equal(model(images, torch.zeros(2, 512)), model.fc.bias.expand(2, 3))
    features = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert pool(features).tolist() == [[5.5, 17.5]]
    assert classify(torch.nn.Identity(), pool(features), torch.tensor([[0.0, 2.0]])).tolist() == [[0.0, 35.0]]


def test_stage_table_adds_up() -> None:
    model = build_model(Structure("resnet50"), 10, 0.0, seed=0)
    sizes = {depth: stage_sizes(model, depth) for depth in range(6)}
    total = sum(parameter.numel() for parameter in model.parameters())
    for depth, rows in sizes.items():
        assert [row.stage for row in rows] == list(STAGES)
        assert sum(row.parameters for row in rows) == total
        assert [row.trainable == 0 for row in rows] == [index < depth for index in range(6)]
        trainable = trainable_parameters(model, depth)
        assert sum(row.trainable for row in rows) == sum(value.numel() for value in trainable.values())
    assert sizes[0][0].parameters == 64 * 3 * 49 + 2 * 64
    assert sizes[0][5].parameters == 2048 * 10 + 10
    assert list(trainable_parameters(model, 5)) == ["fc.weight", "fc.bias"]


def test_stage_of_every_name_is_a_stage_in_order() -> None:
    model = build_model(Structure("resnet18"), 2, 0.0, seed=0)
    found = [stage_of(name) for name, _ in model.named_children()]
    assert list(dict.fromkeys(found)) == list(STAGES)
    assert stage_of("layer2.0.downsample.1.running_mean") == "layer2"
    assert frozen_stages(0) == ()
    assert frozen_stages(5) == STAGES[:5]
    for depth in (-1, 6):
        with pytest.raises(ValueError, match=rf"freeze_depth={depth} is not in 0\.\.5"):
            frozen_stages(depth)


def test_model_json_rebuilds_the_same_network() -> None:
    model = build_model(Structure("resnet34"), 6, 0.25, seed=8)
    again = rebuild(json.loads(json.dumps(describe(model))))
    assert describe(again) == describe(model)
    again.load_state_dict(model.state_dict())


@settings(max_examples=examples(0.2))
@given(data=st.data(), arch=st.sampled_from(ARCHS), squeeze_excite=st.booleans())
def test_model_json_says_how_wide_a_network_is(data: st.DataObject, arch: Arch, squeeze_excite: bool) -> None:
    structure = Structure(arch, squeeze_excite, data.draw(random_widths(arch)))
    description = json.loads(json.dumps(describe(ResNetClassifier(structure, 3, 0.1))))
    assert structure_of(description) == structure


def test_widths_in_model_json_rebuild_the_network() -> None:
    widths = Widths.parse("48 48:-,16 128:128,- 200:256,256 512:512,512", "resnet18")
    model = build_model(Structure("resnet18", widths=widths), 3, 0.0, seed=1)
    again = rebuild(json.loads(json.dumps(describe(model))))
    assert again.structure == model.structure
    again.load_state_dict(model.state_dict(), strict=True)


@given(
    st.sampled_from(
        [
            {"schema": 2},
            {"schema": None},
            {"arch": "vgg16"},
            {"arch": ["resnet18"]},
            {"classes": 0},
            {"classes": True},
            {"classes": 2.0},
            {"classes": 10**9},
            {"dropout": 1.0},
            {"dropout": -0.1},
            {"dropout": "0.1"},
            {"dropout": float("nan")},
            {"dropout": None},
            {"squeeze_excite": {"reduction": 8}},
            {"squeeze_excite": {"reduction": 16.0}},
            {"squeeze_excite": {"reduction": 16, "gate": "hard"}},
            {"squeeze_excite": {}},
            {"squeeze_excite": True},
            {"squeeze_excite": 16},
            {"widths": [64]},
            {"widths": "0.5"},
            {"widths": Widths.of("resnet34").to_json()},
            {"widths": Widths.of("resnet18").to_json() | {"stem": 48}},
            {"widths": Widths.of("resnet18").to_json() | {"stem": True}},
            {"widths": Widths.of("resnet18").to_json() | {"stem": 64.0}},
            {"widths": Widths.of("resnet18").to_json() | {"layer4": {"channels": 1024, "blocks": [[512], [512]]}}},
            {"widths": Widths.of("resnet18").to_json() | {"layer4": {"channels": 512, "blocks": [None, [512]]}}},
            {"quantisation": "int8"},
            {"quantisation": {"weight_bits": 4, "ranges": {}}},
            {"unknown": 1},
        ]
    )
)
def test_model_json_refuses_what_it_does_not_know(change: dict[str, object]) -> None:
    description = {**describe(build_model(Structure("resnet18"), 2, 0.0, seed=0)), **change}
    with pytest.raises(RunError, match="|".join(change)):
        rebuild(description)


@pytest.mark.parametrize("key", ["schema", "arch", "classes", "dropout", "squeeze_excite", "widths", "quantisation"])
def test_model_json_must_be_complete(key: str) -> None:
    description = describe(build_model(Structure("resnet18"), 2, 0.0, seed=0))
    del description[key]
    with pytest.raises(RunError, match="keys"):
        rebuild(description)
