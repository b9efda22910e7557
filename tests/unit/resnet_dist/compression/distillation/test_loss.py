"""The student's loss against its definition, written out in float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnet_dist.compression.config import DistillationConfig
from resnet_dist.compression.distillation.attention import STAGES, attention_map
from resnet_dist.compression.distillation.loss import distilled, map_distances
from resnet_dist.training.losses import Loss
from resnet_dist.training.mixing import Mix

seeds = st.integers(0, 2**32 - 1)
temperatures = st.sampled_from([0.25, 1.0, 2.0, 7.5, 100.0])
weights = st.sampled_from([0.0, 0.3, 0.9, 1.0])


def config(temperature: float = 2.0, weight: float = 0.9) -> DistillationConfig:
    return DistillationConfig(teacher="large", temperature=temperature, weight=weight)


def batch(seed: int, samples: int, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of the student and of the teacher, and labels."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (4.0 * torch.randn((samples, classes), generator=generator) for _ in range(2))
    return student, teacher, torch.randint(classes, (samples,), generator=generator)


def pairs(seed: int, samples: int) -> Mix:
    """Neighbours with a factor a pair; the last of an odd number is its own partner."""
    partner = torch.arange(samples) ^ 1
    factor = torch.rand((samples + 1) // 2, generator=torch.Generator().manual_seed(seed)).repeat_interleave(2)
    if samples % 2:
        partner[-1], factor[samples - 1] = samples - 1, 1.0
    return Mix(partner, factor[:samples])


def oracle(
    logits: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, mix: Mix | None, temperature: float, share: float
) -> torch.Tensor:
    """float64 [B], a sample after the other."""
    logits, teacher, losses = logits.double(), teacher.double(), []
    for row, label in enumerate(labels.tolist()):
        own = (logits[row] / temperature).softmax(0)
        theirs = (teacher[row] / temperature).softmax(0)
        divergence = (theirs * (theirs / own).log()).sum()
        chances = logits[row].softmax(0)
        label_loss, weight = -chances[label].log(), share
        if mix is not None and int(mix.partner[row]) != row:
            factor = float(mix.factor[row])
            label_loss = factor * label_loss - (1 - factor) * chances[labels[mix.partner[row]]].log()
            weight = 1.0
        losses.append((1 - weight) * label_loss + weight * temperature**2 * divergence)
    return torch.stack(losses)


@given(seed=seeds, samples=st.integers(1, 7), temperature=temperatures, weight=weights, mixed=st.booleans())
def test_loss_and_gradient_are_those_of_the_definition(
    seed: int, samples: int, temperature: float, weight: float, mixed: bool
) -> None:
    logits, teacher, labels = batch(seed, samples)
    mix = pairs(seed, samples) if mixed else None
    exact = logits.double().requires_grad_(True)
    expected = oracle(exact, teacher, labels, mix, temperature, weight)
    logits.requires_grad_(True)
    found = distilled(config(temperature, weight), Loss().of_samples(logits, labels, mix), logits, teacher, mix)
    assert found.dtype == torch.float32
    # A float32 probability has seven digits, and T^2 multiplies what the divergence loses of them.
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-5 * max(1.0, temperature**2))
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    (exact_gradient,) = torch.autograd.grad(expected.sum(), exact)
    torch.testing.assert_close(gradient, exact_gradient.float(), rtol=1e-4, atol=2e-6 * max(1.0, temperature))


@given(seed=seeds, halves=st.integers(1, 4), at=st.integers(0, 4))
def test_a_batch_is_its_microbatches_one_after_the_other(seed: int, halves: int, at: int) -> None:
    samples, cut = 2 * halves, 2 * min(at, halves)
    logits, teacher, labels = batch(seed, samples)
    mix = pairs(seed, samples)

    def of(part: slice) -> torch.Tensor:
        own = Mix(mix.partner[part] - (part.start or 0), mix.factor[part])
        return distilled(config(), Loss().of_samples(logits[part], labels[part], own), logits[part], teacher[part], own)

    torch.testing.assert_close(torch.cat([of(slice(0, cut)), of(slice(cut, None))]), of(slice(None)))


@given(seed=seeds, temperature=temperatures, shift=st.sampled_from([0.0, -3.0, 100.0]))
def test_a_student_that_answers_as_its_teacher_has_nothing_to_learn_from_it(
    seed: int, temperature: float, shift: float
) -> None:
    logits, _, _ = batch(seed, 6)
    logits.requires_grad_(True)
    found = distilled(config(temperature, 1.0), torch.zeros(6), logits, logits.detach().clone(), None)
    assert found.tolist() == [0.0] * 6
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0.0, atol=2e-6 * max(1.0, temperature))
    moved = distilled(config(temperature, 1.0), torch.zeros(6), logits, logits.detach() + shift, None)
    torch.testing.assert_close(moved.detach(), torch.zeros(6), rtol=0.0, atol=1e-5 * max(1.0, temperature**2))


@given(seed=seeds, samples=st.integers(1, 7))
def test_without_weight_the_labels_loss_is_left_to_the_bit(seed: int, samples: int) -> None:
    logits, teacher, labels = batch(seed, samples)
    losses = Loss(label_smoothing=0.1).of_samples(logits, labels, None)
    assert torch.equal(distilled(config(weight=0.0), losses, logits, teacher, None), losses)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_logits_are_compared_in_float32(dtype: torch.dtype) -> None:
    logits, teacher, labels = batch(3, 50)
    short = logits.to(dtype)
    losses = Loss().of_samples(short, labels, None)
    found = distilled(config(), losses, short, teacher, None)
    assert found.dtype == torch.float32
    assert torch.equal(found, distilled(config(), losses, short.float(), teacher, None))


def test_logits_far_apart_give_a_finite_loss() -> None:
    logits, teacher, labels = batch(5, 8)
    found = distilled(config(0.25), Loss().of_samples(1e4 * logits, labels, None), 1e4 * logits, -1e4 * teacher, None)
    assert bool(torch.isfinite(found).all())


def features(seed: int, channels: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn((3, channels, 4, 5), generator=torch.Generator().manual_seed(seed))


@given(seed=seeds, channels=st.integers(1, 9), scale=st.sampled_from([1e-3, 1.0, 1e4]))
def test_a_map_has_norm_one_and_knows_no_scale(seed: int, channels: int, scale: float) -> None:
    found = attention_map(features(seed, channels, scale))
    assert found.shape == (3, 20)
    torch.testing.assert_close(found.square().sum(1), torch.ones(3))
    torch.testing.assert_close(found, attention_map(features(seed, channels)), rtol=1e-4, atol=1e-6)
    expected = features(seed, channels).double().square().mean(1).reshape(3, 20)
    torch.testing.assert_close(found, (expected / expected.norm(dim=1, keepdim=True)).float(), rtol=1e-4, atol=1e-6)


def test_distances_are_summed_over_stages_for_any_number_of_channels() -> None:
    outputs = {stage: features(number, 3 + number) for number, stage in enumerate(STAGES[1:])}
    others = {stage: attention_map(features(9 + number, 7)) for number, stage in enumerate(STAGES)}
    found = map_distances(outputs, others)
    assert isinstance(found, torch.Tensor)
    assert found.shape == (3,)
    by_stage = [(attention_map(outputs[stage]) - others[stage]).norm(dim=1) ** 2 for stage in STAGES[1:]]
    torch.testing.assert_close(found, by_stage[0] + by_stage[1] + by_stage[2])
    assert map_distances({}, others) == 0.0


def test_a_stage_without_any_activity_has_a_finite_gradient() -> None:
    dead = torch.zeros((2, 3, 4, 5), requires_grad=True)
    assert attention_map(dead).tolist() == torch.zeros((2, 20)).tolist()
    (gradient,) = torch.autograd.grad(attention_map(dead).sum(), dead)
    assert bool(torch.isfinite(gradient).all())
