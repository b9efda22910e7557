"""Scores of channels and branches: against gates that autograd differentiates, on planted channels, in any order."""

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from resnet_dist.compression.pruning.channels import Channels, highest, identity_blocks, summed_over_norms
from resnet_dist.compression.pruning.cut import cut
from resnet_dist.compression.pruning.scores import Scores, channel_scores
from resnet_dist.errors import RunError
from resnet_dist.model.resnet import ResNetClassifier
from resnet_dist.model.structure import Structure
from resnet_dist.model.trunk import split
from resnet_dist.model.widths import Widths
from tests.laws import examples
from tests.small_networks import CLASSES, images, kill_the_rest, random_scores, random_widths, trained_looking

SMALL = [
    Structure("resnet18", widths=Widths.of("resnet18", 0.25)),
    Structure("resnet50", widths=Widths.of("resnet50", 0.25)),
]
STRUCTURES = [replace(small, squeeze_excite=gates) for small in SMALL for gates in (False, True)]

Batch = tuple[torch.Tensor, torch.Tensor]


def batches(count: int = 3, dtype: torch.dtype = torch.float32) -> list[Batch]:
    """Microbatches of different sizes."""
    return [(images(4 - n % 2, n, 64).to(dtype), (torch.arange(4 - n % 2) + n) % CLASSES) for n in range(count)]


def every_number(scores: Channels[np.float64]) -> np.ndarray:
    groups = [scores.stem, *scores.streams, *(group for inner in scores.inner.values() for group in inner)]
    branches = list(scores.branches.values()) if isinstance(scores, Scores) else []
    return np.concatenate([*groups, branches])


def of_masks(model: ResNetClassifier) -> Scores:
    """The definition: how the loss changes with a factor after each channel of each BatchNorm, in float64."""
    model = copy.deepcopy(model).double()
    norms = {name: part for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d)}
    masks = {
        name: torch.ones(part.num_features, dtype=torch.float64, requires_grad=True) for name, part in norms.items()
    }

    def after(name: str) -> Callable[[nn.Module, object, torch.Tensor], torch.Tensor]:
        return lambda _, __, output: output * masks[name][:, None, None]

    for name, part in norms.items():
        part.register_forward_hook(after(name))
    slopes: dict[str, list[np.ndarray]] = {name: [] for name in norms}
    for pixels, labels in batches(dtype=torch.float64):
        loss = nn.functional.cross_entropy(model(pixels), labels, reduction="sum")
        for name, slope in zip(masks, torch.autograd.grad(loss, list(masks.values())), strict=True):
            slopes[name].append(slope.numpy())
    found = summed_over_norms(model.structure, lambda norm: np.mean(np.square(slopes[norm]), 0))
    branches = {
        block: float(np.mean([slope.sum() ** 2 for slope in slopes[norm]]))
        for block, norm in identity_blocks(model.structure)
    }
    return Scores(found.streams, found.inner, found.own_stem, branches)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_score_is_what_removal_changes_to_first_order(structure: Structure) -> None:
    model = trained_looking(structure)
    got, expected = channel_scores(model, batches()), of_masks(model)
    assert got.branches.keys() == expected.branches.keys()
    for ours, theirs in (
        *zip(got.streams, expected.streams, strict=True),
        *(
            (got.inner[name][place], group)
            for name, groups in expected.inner.items()
            for place, group in enumerate(groups)
        ),
        (got.stem, expected.stem),
        (np.array([*got.branches.values()]), np.array([*expected.branches.values()])),
    ):
        assert ours.dtype == np.float64
        assert ours.max() > 0
        np.testing.assert_allclose(ours, theirs, rtol=0.01, atol=1e-5 * theirs.max())


@settings(max_examples=examples(0.3))
@given(data=st.data(), structure=st.sampled_from(STRUCTURES), seed=st.integers(0, 2**32))
def test_planted_dead_channels_score_zero_and_are_cut(data: st.DataObject, structure: Structure, seed: int) -> None:
    alive = highest(random_scores(structure, seed), data.draw(random_widths(structure.arch, structure.layer_widths)))
    model = trained_looking(structure)
    kill_the_rest(model, alive)
    scores = channel_scores(model, batches())
    for positions, group in zip(alive.streams, scores.streams, strict=True):
        assert not np.delete(group, positions).any()
    for name, groups in scores.inner.items():
        for place, group in enumerate(groups):
            assert not (np.delete(group, alive.inner[name][place]) if name in alive.inner else group).any()
    assert all(scores.branches[name] == 0 for name in scores.branches if name not in alive.inner)
    # What has no effect on these images scores zero too, so that either may go.
    smaller = cut(model, highest(scores, alive.widths(structure.arch)))
    if not structure.squeeze_excite:  # whose hidden units are chosen by their weights
        with torch.no_grad():
            for pixels, _ in batches():
                torch.testing.assert_close(smaller(pixels), model(pixels), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_order_of_microbatches_does_not_matter_to_the_bit(structure: Structure) -> None:
    model, given = trained_looking(structure), batches(5)
    first, again, turned = (channel_scores(model, each) for each in (given, iter(given), given[::-1]))
    assert np.array_equal(every_number(first), every_number(again))
    assert np.array_equal(every_number(first), every_number(turned))
    assert not np.array_equal(every_number(first), every_number(channel_scores(model, given[:4])))


def test_a_frozen_network_is_scored_alike_and_left_as_it_was() -> None:
    model = trained_looking(STRUCTURES[1])
    expected = every_number(channel_scores(model, batches()))
    model.train()
    split(model, 3)
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    state = copy.deepcopy(model.state_dict())
    modes = [part.training for part in model.modules()]
    required = [parameter.requires_grad for parameter in model.parameters()]
    with torch.no_grad():
        got = every_number(channel_scores(model, batches()))
    assert np.array_equal(got, expected)
    assert len(set(modes)) == len(set(required)) == 2
    assert [part.training for part in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == required
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    assert list(gradients) == ["fc.weight"]
    assert (gradients["fc.weight"] == 1).all()


def test_another_loss_gives_other_scores() -> None:
    model = trained_looking(STRUCTURES[0])
    plain = channel_scores(model, batches())
    twice = channel_scores(
        model, batches(), lambda logits, labels: 2 * nn.functional.cross_entropy(logits, labels, reduction="sum")
    )
    np.testing.assert_allclose(every_number(twice), 4 * every_number(plain), rtol=1e-5)


def test_what_gives_no_scores() -> None:
    model = trained_looking(STRUCTURES[0]).train()
    with pytest.raises(ValueError, match="at least one microbatch"):
        channel_scores(model, [])
    with torch.no_grad():
        model.bn1.bias[0] = torch.inf
    with pytest.raises(RunError, match=r"gradients at .* are not finite on a microbatch of 4 images"):
        channel_scores(model, batches())
    assert model.training
