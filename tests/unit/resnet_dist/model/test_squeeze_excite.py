"""Gates on every block: identity at first, then trained, folded, stored and rebuilt like everything else."""

import copy
import json
from collections.abc import Callable

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from resnet_dist.errors import RunError
from resnet_dist.model.architectures import ARCHS, Arch
from resnet_dist.model.model_json import describe, rebuild
from resnet_dist.model.resnet import ResNetClassifier, build_model
from resnet_dist.model.squeeze_excite import SqueezeExcite
from resnet_dist.model.structure import Structure
from resnet_dist.model.trunk import split
from resnet_dist.model.weights import StructuredWeights, Weights, initialize

torch.set_num_threads(1)

SMALL: list[Arch] = ["resnet18", "resnet50", "resnext50_32x4d"]


LARGE_SLOWLY = [
    each if each in {"resnet18", "resnet50", "resnext50_32x4d"} else pytest.param(each, marks=pytest.mark.slow)
    for each in ARCHS
]
"""All of them; those that take seconds to make are left to the long run."""


GATED = Structure("resnet18", squeeze_excite=True)


def no_run(name: str) -> StructuredWeights | None:
    raise AssertionError(f"{name} was looked up as a run")


def images(count: int = 2, seed: int = 1, size: int = 32) -> torch.Tensor:
    made = torch.randn((count, 3, size, size), generator=torch.Generator().manual_seed(seed))
    return made.to(memory_format=torch.channels_last)


def gates(model: nn.Module) -> list[SqueezeExcite]:
    return [part for part in model.modules() if isinstance(part, SqueezeExcite)]


def opened(model: ResNetClassifier, seed: int) -> ResNetClassifier:
    """With gates that differ by image and BatchNorm that has statistics, as after training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for gate in gates(model):
            gate.expand.weight.normal_(0.0, 0.5, generator=generator)
            gate.expand.bias.normal_(0.0, 0.5, generator=generator)
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
                layer.running_mean.normal_(0.0, 0.2, generator=generator)
                layer.running_var.uniform_(0.5, 2.0, generator=generator)
                layer.weight.uniform_(0.3, 1.2, generator=generator)
    return model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("arch", LARGE_SLOWLY)
def test_every_block_has_a_gate_and_all_other_names_are_torchvisions(arch: Arch) -> None:
    with torch.device("meta"):
        plain = torchvision.models.get_model(arch, weights=None, num_classes=7)
        model = ResNetClassifier(Structure(arch, squeeze_excite=True), 7, 0.0)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    expected = {name: tuple(value.shape) for name, value in plain.state_dict().items()}
    blocks = [name for name, part in plain.named_modules() if name.count(".") == 1 and name.startswith("layer")]
    for block in blocks:
        part = plain.get_submodule(block)
        channels = (part.bn3 if hasattr(part, "bn3") else part.bn2).num_features
        hidden = max(8, channels // 16)
        expected |= {f"{block}.se.reduce.weight": (hidden, channels), f"{block}.se.reduce.bias": (hidden,)}
        expected |= {f"{block}.se.expand.weight": (channels, hidden), f"{block}.se.expand.bias": (channels,)}
        children = [name for name, _ in model.get_submodule(block).named_children()]
        assert children == [*(name for name, _ in part.named_children()), "se"]
        assert model.get_submodule(block).stride == part.stride
    assert shapes == expected
    assert len(gates(model)) == len(blocks)


@pytest.mark.parametrize("arch", SMALL)
def test_gates_start_as_identity_to_the_bit(arch: Arch) -> None:
    plain, gated = (
        build_model(Structure(arch), 4, 0.0, seed=3),
        build_model(Structure(arch, squeeze_excite=True), 4, 0.0, seed=3),
    )
    own = gated.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in plain.state_dict().items())
    for mode in (False, True):  # training mode last: it moves running statistics
        for model in (plain, gated):
            model.train(mode).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        assert torch.equal(plain(images(4)), gated(images(4)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(plain(images(4)), gated(images(4)))


@given(channels=st.integers(1, 70), seed=st.integers(0, 2**32), scale=st.floats(0.0, 1e6))
def test_a_new_gate_is_the_identity_for_any_features(channels: int, seed: int, scale: float) -> None:
    gate, generator = SqueezeExcite(channels), torch.Generator().manual_seed(seed)
    gate.initialize(generator)
    features = scale * torch.randn((2, channels, 3, 2), generator=generator)
    assert torch.equal(gate(features), features)


@given(channels=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_a_gate_scales_each_channel_by_a_number_between_0_and_2(channels: int, seed: int) -> None:
    gate, generator = SqueezeExcite(channels), torch.Generator().manual_seed(seed)
    gate.initialize(generator)
    with torch.no_grad():
        gate.expand.weight.normal_(0.0, 2.0, generator=generator)
        features = torch.rand((2, channels, 2, 3), generator=generator) + 0.5
        ratio = gate(features) / features
    assert (ratio >= 0.0).all()
    assert (ratio <= 2.0 + 1e-6).all()
    assert (ratio.amax((2, 3)) - ratio.amin((2, 3)) < 1e-5).all()


def test_first_weights_are_the_seeds_and_leave_the_global_generator_alone() -> None:
    built: list[Weights] = []
    for global_seed, seed in ((0, 5), (1, 5), (1, 6)):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        built.append(build_model(Structure("resnet18", squeeze_excite=True), 4, 0.1, seed).state_dict())
        assert torch.equal(torch.get_rng_state(), before)
    first, again, other = built
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    drawn = [name for name in first if ".se.reduce." in name]
    assert len(drawn) == 16
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_gates_move_when_they_are_trained() -> None:
    model = build_model(Structure("resnet18", squeeze_excite=True), 3, 0.0, seed=0)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images(6)), torch.arange(6) % 3).backward()
        optimizer.step()
    after = model.state_dict()
    assert not [name for name in after if ".se." in name and torch.equal(after[name], before[name])]


@pytest.mark.parametrize("arch", SMALL)
@pytest.mark.parametrize("depth", [1, 3, 5])
def test_trunk_then_suffix_is_the_model(arch: Arch, depth: int) -> None:
    model = opened(build_model(Structure(arch, squeeze_excite=True), 5, 0.0, seed=0), seed=2).eval()
    with torch.no_grad():
        expected = model(images())
        trunk, suffix = split(model, depth)
        assert trunk is not None
        assert not [layer for layer in trunk.modules() if isinstance(layer, nn.BatchNorm2d)]
        features = trunk(images())
        got = suffix.eval()(features)
    assert depth == 5 or features.is_contiguous(memory_format=torch.channels_last)
    assert (got - expected).abs().max() / expected.abs().max() < 1e-5
    # The gates count: without them the answer is another one.
    for gate in gates(model):
        gate.initialize(torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (model(images()) - expected).abs().max() / expected.abs().max() > 1e-2


@pytest.mark.parametrize("squeeze_excite", [False, True])
@pytest.mark.parametrize("arch", LARGE_SLOWLY)
def test_model_json_says_whether_there_are_gates(arch: Arch, squeeze_excite: bool) -> None:
    with torch.device("meta"):
        model = ResNetClassifier(Structure(arch, squeeze_excite), 6, 0.25)
        description = describe(model)
        again = rebuild(json.loads(json.dumps(description)))
    assert description["squeeze_excite"] == ({"reduction": 16} if squeeze_excite else None)
    assert describe(again) == description
    shapes = [{name: value.shape for name, value in each.state_dict().items()} for each in (model, again)]
    assert shapes[0] == shapes[1]


def test_weights_without_gates_load_and_say_so(tmp_path: object) -> None:
    stored = build_model(Structure("resnet18"), 3, 0.0, seed=7).state_dict()
    save_file(stored, f"{tmp_path}/a.safetensors")
    model = build_model(Structure("resnet18", squeeze_excite=True), 3, 0.0, seed=0)
    untouched = copy.deepcopy(model.state_dict())
    messages = initialize(model, f"{tmp_path}/a.safetensors", no_run)
    assert messages[1:] == ["squeeze-excite: 8 gates start as identity"]
    expected = untouched | stored
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_weights_with_gates_load_whole() -> None:
    stored = opened(build_model(Structure("resnet18", squeeze_excite=True), 3, 0.0, seed=7), seed=4).state_dict()
    model = build_model(Structure("resnet18", squeeze_excite=True), 3, 0.0, seed=0)
    assert initialize(model, "run", lambda _: StructuredWeights(stored, GATED)) == ["weights: run"]
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())


Change = Callable[[Weights], Weights]


@pytest.mark.parametrize(
    ("squeeze_excite", "change", "match"),
    [
        (False, lambda state: state, r"squeeze-excite gates and model\.squeeze_excite=false has none; set model"),
        (
            True,
            lambda state: {name: value for name, value in state.items() if name != "layer1.0.se.expand.bias"},
            r"layer1\.0\.se\.expand\.bias is missing",
        ),
        (True, lambda state: state | {"layer1.0.se.expand.bias": torch.zeros(63)}, r"expand\.bias is \[63\], not"),
    ],
)
def test_gates_that_do_not_fit_are_refused(squeeze_excite: bool, change: Change, match: str) -> None:
    stored = build_model(Structure("resnet18", squeeze_excite=True), 3, 0.0, seed=7).state_dict()
    model = build_model(Structure("resnet18", squeeze_excite=squeeze_excite), 3, 0.0, seed=0)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RunError, match=match):
        initialize(model, "other", lambda _: StructuredWeights(change(stored), GATED))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
