"""Policies by stage: what is trained, what stays to the bit, and what it saves."""

import copy
import itertools

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from resnet_dist.model.architectures import ARCHS
from resnet_dist.model.config import FREEZABLE, FreezingConfig, Policies, depth_policies, freezing_phases
from resnet_dist.model.freezing import (
    expected_speed_up,
    frozen_norms,
    frozen_stages,
    stage_learning_rates,
    stage_of,
    stage_policies,
    stage_sizes,
    trainable_parameters,
)
from resnet_dist.model.resnet import STAGES, ResNetClassifier, build_model
from resnet_dist.model.structure import Structure
from resnet_dist.model.trunk import split
from resnet_dist.training.batch_norm import RunningStatistics
from tests.laws import examples

torch.set_num_threads(1)

LAYERED: Policies = ("frozen", "bn_frozen", "bn_frozen", "trainable", "trainable")
SOME: list[Policies] = [
    LAYERED,
    ("bn_frozen",) * 5,
    ("frozen", "frozen", "frozen", "frozen", "bn_frozen"),
    ("trainable", "bn_frozen", "trainable", "bn_frozen", "trainable"),
    ("frozen", "trainable", "trainable", "trainable", "bn_frozen"),
]


@st.composite
def policies(draw: st.DrawFn) -> Policies:
    frozen = draw(st.integers(0, 5))
    rest = draw(st.lists(st.sampled_from(["bn_frozen", "trainable"]), min_size=5 - frozen, max_size=5 - frozen))
    return ("frozen",) * frozen + tuple(rest)


@pytest.fixture(scope="module")
def shared() -> ResNetClassifier:
    """For tests that leave values as they are."""
    return build_model(Structure("resnet18", squeeze_excite=True), 3, 0.0, seed=0)


def images(count: int = 2, seed: int = 1) -> torch.Tensor:
    return torch.randn((count, 3, 32, 32), generator=torch.Generator().manual_seed(seed))


def norms(module: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: part for name, part in module.named_modules() if isinstance(part, nn.BatchNorm2d)}


@settings(max_examples=examples(0.25))
@given(chosen=policies(), toggles=st.lists(st.booleans(), max_size=4))
def test_modes_and_gradients_follow_the_policies(
    shared: ResNetClassifier, chosen: Policies, toggles: list[bool]
) -> None:
    split(shared.train(), 5)  # an earlier split is undone by a later one
    trunk, suffix = split(shared, chosen)
    policy = stage_policies(chosen)
    assert (trunk is None) == (chosen[0] != "frozen")
    for mode in (*toggles, True):
        suffix.train(mode)
        for name, norm in norms(suffix).items():
            assert norm.training == (mode and policy[stage_of(name)] == "trainable"), (name, mode)
    trained = trainable_parameters(shared, chosen)
    assert {name for name, value in shared.named_parameters() if value.requires_grad} == set(trained)
    expected = {
        name
        for name, _ in shared.named_parameters()
        if policy[stage_of(name)] == "trainable"
        or (policy[stage_of(name)] == "bn_frozen" and name.rpartition(".")[0] not in norms(shared))
    }
    assert set(trained) == expected
    moving = sum(2 * norm.num_features for name, norm in norms(suffix).items() if policy[stage_of(name)] == "trainable")
    assert RunningStatistics(suffix).width == moving


@settings(max_examples=examples(0.25))
@given(chosen=policies())
def test_stage_table_adds_up(shared: ResNetClassifier, chosen: Policies) -> None:
    rows = stage_sizes(shared, chosen)
    assert [row.stage for row in rows] == list(STAGES)
    assert tuple(row.policy for row in rows) == (*chosen, "trainable")
    assert sum(row.parameters for row in rows) == sum(value.numel() for value in shared.parameters())
    trained = trainable_parameters(shared, chosen)
    assert sum(row.trainable for row in rows) == sum(value.numel() for value in trained.values())
    for row in rows:
        kept = sum(2 * norm.num_features for name, norm in norms(shared).items() if stage_of(name) == row.stage)
        spared = {"frozen": row.parameters, "bn_frozen": kept, "trainable": 0}[row.policy]
        assert row.trainable == row.parameters - spared


@pytest.mark.parametrize("chosen", SOME, ids=" ".join)
def test_frozen_batch_norm_stays_to_the_bit_and_the_rest_is_trained(chosen: Policies) -> None:
    model = build_model(Structure("resnet18", squeeze_excite=True), 3, 0.0, seed=0)
    trunk, suffix = split(model, chosen)
    suffix.train()
    before = copy.deepcopy(model.state_dict())
    statistics = RunningStatistics(suffix)
    optimizer = torch.optim.SGD([value for value in suffix.parameters() if value.requires_grad], lr=0.05, momentum=0.9)
    for step in range(3):
        batch = images(6, seed=step)
        with statistics.of_microbatches():
            logits = suffix(batch if trunk is None else trunk(batch))
            nn.functional.cross_entropy(logits, torch.arange(6) % 3).backward()
            seen = statistics.read()
        optimizer.step()
        optimizer.zero_grad()
        statistics.update(seen, torch.tensor(False))
        suffix.eval()  # as validation does
        suffix(images() if trunk is None else trunk(images()))
        suffix.train()
    policy, owners = stage_policies(chosen), norms(model)
    for name, value in model.state_dict().items():
        kept = {"frozen": True, "bn_frozen": name.rpartition(".")[0] in owners, "trainable": False}
        assert torch.equal(value, before[name]) == kept[policy[stage_of(name)]], name


@pytest.mark.parametrize("chosen", SOME, ids=" ".join)
def test_trunk_then_suffix_is_the_model(shared: ResNetClassifier, chosen: Policies) -> None:
    trunk, suffix = split(shared, chosen)
    with torch.no_grad():
        expected = shared.eval()(images())
        got = suffix.eval()(images() if trunk is None else trunk(images()))
    assert (got - expected).abs().max() / expected.abs().max() < 1e-5


def test_a_depth_is_as_many_frozen_stages() -> None:
    for depth in range(6):
        assert frozen_stages(depth) == frozen_stages(depth_policies(depth)) == FREEZABLE[:depth]
        assert freezing_phases(FreezingConfig(freeze_depth=depth)) == [(0, depth_policies(depth))]
    assert freezing_phases(FreezingConfig(preset="layered")) == [(0, LAYERED)]
    model = build_model(Structure("resnet18"), 2, 0.0, seed=0)
    assert [list(trainable_parameters(model, n)) for n in range(6)] == [
        list(trainable_parameters(model, depth_policies(n))) for n in range(6)
    ]
    assert len(frozen_norms(model, LAYERED)) == 9  # 4 in layer1, 5 in layer2


@pytest.mark.parametrize(
    ("chosen", "match"),
    [
        (6, r"freeze_depth=6 is not in 0\.\.5"),
        (-1, r"freeze_depth=-1 is not in 0\.\.5"),
        (("frozen",), "1 policies for 5 stages"),
        (("trainable", "frozen", "trainable", "trainable", "trainable"), "layer1 is frozen behind .* trainable"),
        (("frozen", "bn_frozen", "trainable", "frozen", "trainable"), "layer3 is frozen behind .* trainable"),
        (("bn_frozen", "frozen", "frozen", "frozen", "frozen"), "layer1 is frozen behind .* bn_frozen"),
    ],
)
def test_what_is_no_policy_is_refused(shared: ResNetClassifier, chosen: Policies | int, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        split(shared, chosen)


@given(decay=st.floats(0.01, 1.0))
def test_each_stages_rate_is_the_decay_times_that_of_the_one_behind_it(decay: float) -> None:
    names = ["conv1.weight", "bn1.bias", "layer1.0.se.reduce.bias", "layer2.0.conv1.weight", "layer3.0.bn1.weight"]
    factors = stage_learning_rates([*names, "layer4.1.conv2.weight", "fc.weight"], decay)
    by_stage = {stage_of(name): factor for name, factor in factors.items()}
    assert factors["fc.weight"] == 1.0
    assert factors["conv1.weight"] == factors["bn1.bias"]
    for before, behind in itertools.pairwise(STAGES):
        assert by_stage[before] == pytest.approx(decay * by_stage[behind], rel=1e-12)


def test_every_trained_parameter_has_a_rate(shared: ResNetClassifier) -> None:
    names = [name for name, _ in shared.named_parameters()]
    assert list(stage_learning_rates(names, 0.5)) == names
    assert set(stage_learning_rates(names, 1.0).values()) == {1.0}
    assert stage_learning_rates(names, 0.5)["conv1.weight"] == 0.5**5


@pytest.mark.parametrize(("arch", "features"), [("resnet18", 512), ("resnet50", 2048), ("resnext50_32x4d", 2048)])
def test_speed_up_from_torchvisions_own_count(arch: str, features: int) -> None:
    assert arch in ARCHS
    model = build_model(Structure(arch), 1000, 0.0, seed=0)  # type: ignore[arg-type]
    forward = 1e9 * torchvision.models.get_model_weights(arch)["IMAGENET1K_V1"].meta["_ops"]
    conv1, fc = 64 * 3 * 49 * 112 * 112, features * 1000
    # Nobody needs the gradient of images; with all stages frozen, only fc's weight has one.
    expected = (3 * forward - conv1) / (forward + fc)
    assert expected_speed_up(model, 5, 224, 224) == pytest.approx(expected, rel=2e-3)


@settings(max_examples=examples(0.15))
@given(chosen=policies(), size=st.sampled_from([(32, 32), (64, 96)]))
def test_speed_up_grows_with_what_is_frozen(shared: ResNetClassifier, chosen: Policies, size: tuple[int, int]) -> None:
    found = expected_speed_up(shared, chosen, *size)
    frozen = len(frozen_stages(chosen))
    # bn_frozen trains all that is counted here.
    assert found == expected_speed_up(shared, frozen, *size)
    assert found >= 1.0
    assert (found == 1.0) == (frozen == 0)
    if frozen:
        assert found > expected_speed_up(shared, frozen - 1, *size)


def test_asking_for_the_speed_up_leaves_the_model_as_it_is() -> None:
    model = build_model(Structure("resnet18"), 3, 0.0, seed=0)
    _, suffix = split(model, LAYERED)
    suffix.train()
    before = copy.deepcopy(model.state_dict())
    requiring = [value.requires_grad for value in model.parameters()]
    modes = [part.training for part in model.modules()]
    generator = torch.get_rng_state()
    expected_speed_up(model, LAYERED, 64, 64)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [value.requires_grad for value in model.parameters()] == requiring
    assert [part.training for part in model.modules()] == modes
    assert not any(part._forward_hooks for part in model.modules())  # pyright: ignore[reportPrivateUsage]
    assert torch.equal(torch.get_rng_state(), generator)
