"""The loss against torch's own, and mixup's against cross entropy with the mixed target, written out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from resnet_dist.training.losses import Loss
from resnet_dist.training.mixing import Mix

seeds = st.integers(0, 2**32 - 1)
smoothings = st.sampled_from([0.0, 0.05, 0.1, 0.5, 0.99])


def batch(seed: int, samples: int, classes: int, scale: float = 5.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn((samples, classes), generator=generator)
    return logits, torch.randint(classes, (samples,), generator=generator)


def some_mix(seed: int, samples: int) -> Mix:
    """Neighbours with a factor a pair; the last of an odd number is its own partner."""
    generator = torch.Generator().manual_seed(seed)
    partner = torch.arange(samples) ^ 1
    factor = torch.rand((samples + 1) // 2, generator=generator).repeat_interleave(2)[:samples]
    if samples % 2:
        partner[-1], factor[-1] = samples - 1, 1.0
    return Mix(partner, factor)


def loss_sum(logits: torch.Tensor, labels: torch.Tensor, mix: Mix | None, smoothing: float) -> torch.Tensor:
    """With nothing else switched on."""
    return Loss(smoothing)(logits, labels, mix)


def soft_targets(labels: torch.Tensor, classes: int, mix: Mix | None, smoothing: float) -> torch.Tensor:
    """float64 [B, C]: one-hot, smoothed, then mixed."""
    targets = functional.one_hot(labels, classes).double()
    targets = (1.0 - smoothing) * targets + smoothing / classes
    if mix is None:
        return targets
    factor = mix.factor.double()[:, None]
    return factor * targets + (1.0 - factor) * targets[mix.partner]


@given(seed=seeds, samples=st.integers(1, 9), classes=st.integers(2, 7), smoothing=smoothings)
def test_without_a_mix_it_is_torchs_cross_entropy(seed: int, samples: int, classes: int, smoothing: float) -> None:
    logits, labels = batch(seed, samples, classes)
    found = loss_sum(logits, labels, None, smoothing)
    assert found.shape == ()
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found, functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
    )


@given(seed=seeds, samples=st.integers(1, 9), classes=st.integers(2, 7), smoothing=smoothings, mixed=st.booleans())
def test_loss_and_gradient_are_those_of_the_soft_targets(
    seed: int, samples: int, classes: int, smoothing: float, mixed: bool
) -> None:
    logits, labels = batch(seed, samples, classes)
    mix = some_mix(seed, samples) if mixed else None
    targets = soft_targets(labels, classes, mix, smoothing)
    torch.testing.assert_close(targets.sum(1), torch.ones(samples, dtype=torch.float64))
    expected = -(targets * logits.double().log_softmax(1)).sum()

    logits.requires_grad_(True)
    found = loss_sum(logits, labels, mix, smoothing)
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(found, logits)
    # Of cross entropy against soft targets: probabilities less targets.
    torch.testing.assert_close(gradient, (logits.detach().double().softmax(1) - targets).float(), rtol=1e-4, atol=1e-5)


def test_mixups_loss_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.5, 0.0]])
    labels = torch.tensor([0, 2])
    mix = Mix(torch.tensor([1, 0]), torch.tensor([0.7, 0.7]))
    first, second = (-logits.log_softmax(1)).tolist()
    expected = 0.7 * first[0] + 0.3 * first[2] + 0.7 * second[2] + 0.3 * second[0]
    assert float(loss_sum(logits, labels, mix, 0.0)) == pytest.approx(expected, rel=1e-6)


@given(seed=seeds, pairs=st.integers(1, 6), cut=st.integers(0, 6), smoothing=smoothings)
def test_a_batch_is_the_sum_of_its_microbatches(seed: int, pairs: int, cut: int, smoothing: float) -> None:
    logits, labels = batch(seed, 2 * pairs, 5)
    mix = some_mix(seed, 2 * pairs)
    at = 2 * min(cut, pairs)
    parts = [slice(0, at), slice(at, None)]
    sums = [
        loss_sum(logits[part], labels[part], Mix(mix.partner[part] - (part.start or 0), mix.factor[part]), smoothing)
        for part in parts
    ]
    torch.testing.assert_close(sums[0] + sums[1], loss_sum(logits, labels, mix, smoothing))


@given(seed=seeds, samples=st.integers(1, 9))
def test_mixing_samples_with_themselves_changes_nothing(seed: int, samples: int) -> None:
    logits, labels = batch(seed, samples, 4)
    for partner, factor in ((torch.arange(samples), 0.3), (torch.arange(samples).flip(0), 1.0)):
        alone = Mix(partner, torch.full((samples,), factor))
        torch.testing.assert_close(loss_sum(logits, labels, alone, 0.1), loss_sum(logits, labels, None, 0.1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_logits_of_any_precision_are_summed_in_float32(dtype: torch.dtype) -> None:
    logits, labels = batch(3, 1000, 10)
    rounded = logits.to(dtype)
    found = loss_sum(rounded, labels, None, 0.1)
    assert found.dtype == torch.float32
    expected = functional.cross_entropy(rounded.float(), labels, reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0.0)


def test_large_logits_stay_finite() -> None:
    logits, labels = batch(5, 8, 3, scale=1e4)
    assert bool(torch.isfinite(loss_sum(logits, labels, some_mix(5, 8), 0.1)))
