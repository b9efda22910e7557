"""Each option of the loss against its formula, alone and together."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from resnet_dist.config import TrainingConfig
from resnet_dist.training.losses import Loss, build_loss
from resnet_dist.training.mixing import Mix, mix_for

CPU = torch.device("cpu")
COUNTS = np.array([40, 5, 15])


def built(counts: np.ndarray = COUNTS, **options: Any) -> Loss:
    return build_loss(TrainingConfig(**options), counts, CPU)


def batch(seed: int, samples: int = 8, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    print("seed", seed)
    generator = torch.Generator().manual_seed(seed)
    logits = 3.0 * torch.randn(samples, classes, generator=generator)
    return logits, torch.randint(classes, (samples,), generator=generator)


def mixed(samples: int = 8) -> Mix:
    bits = np.random.default_rng(1).integers(0, 2**64, (samples // 2, 64), dtype=np.uint64)
    mix = mix_for(0.4, 0.0, bits, samples, 8, 8, CPU)
    assert mix is not None
    return mix


def log_p(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """float64 [B]: the logarithm of each label's probability."""
    return torch.log_softmax(logits.double(), 1)[torch.arange(len(labels)), labels]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("with_mix", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_with_every_option_off_it_is_the_summed_cross_entropy_bit_for_bit(
    smoothing: float, with_mix: bool, dtype: torch.dtype
) -> None:
    logits, labels = batch(0)
    logits, mix = logits.to(dtype), mixed() if with_mix else None
    own = functional.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=smoothing)
    expected = own.sum()
    if mix is not None:
        others = functional.cross_entropy(
            logits.float(), labels[mix.partner], reduction="none", label_smoothing=smoothing
        )
        expected = (mix.factor * own + (1.0 - mix.factor) * others).sum()
    for loss in (built(label_smoothing=smoothing), built(label_smoothing=smoothing, focal_gamma=3.0)):
        assert torch.equal(loss(logits, labels, mix), expected)
    assert torch.equal(Loss(smoothing)(logits, labels, mix), expected)
    assert expected.dtype == torch.float32


@given(st.integers(0, 2**31), st.floats(0.1, 10.0))
def test_focal_loss_is_cross_entropy_times_a_power_of_what_is_missing(seed: int, gamma: float) -> None:
    logits, labels = batch(seed)
    loss = built(loss="focal", focal_gamma=gamma)(logits, labels, None)
    logarithm = log_p(logits, labels)
    expected = -((1.0 - logarithm.exp()) ** gamma) * logarithm
    torch.testing.assert_close(loss.double(), expected.sum(), rtol=1e-5, atol=1e-7)


@given(st.integers(0, 2**31))
def test_focal_loss_of_two_classes_is_that_of_a_sigmoid_of_their_difference(seed: int) -> None:
    logits, labels = batch(seed, classes=2)
    loss = build_loss(TrainingConfig(loss="focal"), np.array([1, 1]), CPU)(logits, labels, None)
    expected = sigmoid_focal_loss(logits[:, 1] - logits[:, 0], labels.float(), alpha=-1, gamma=2.0, reduction="sum")
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-7)


def test_focal_loss_with_gamma_zero_is_cross_entropy_bit_for_bit() -> None:
    logits, labels = batch(3)
    assert torch.equal(built(loss="focal", focal_gamma=0.0)(logits, labels, None), built()(logits, labels, None))


@pytest.mark.parametrize("gamma", [0.2, 1.0, 2.0])
def test_focal_loss_has_a_finite_gradient_where_a_sample_is_surely_right_or_wrong(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0], [17.0, 0.0, 0.0]], requires_grad=True)
    built(loss="focal", focal_gamma=gamma)(logits, torch.tensor([0, 0, 0]), None).backward()
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())
    assert torch.equal(logits.grad[0], torch.zeros(3))
    torch.testing.assert_close(logits.grad[1], torch.tensor([-1.0, 1.0, 0.0]))


@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=20))
def test_balanced_weights_are_one_on_average_over_the_training_split(counts: list[int]) -> None:
    loss = built(np.array(counts), class_weights="balanced")
    assert loss.class_weights is not None
    weights, numbers = loss.class_weights.double(), torch.tensor(counts, dtype=torch.float64)
    assert float((weights * numbers).sum() / numbers.sum()) == pytest.approx(1.0, rel=1e-6)
    torch.testing.assert_close(weights * numbers, (weights * numbers)[:1].expand(len(counts)), rtol=1e-6, atol=0.0)


def test_a_mixed_samples_two_losses_have_each_its_own_labels_weight() -> None:
    logits, labels = batch(4)
    mix = mixed()
    loss = built(class_weights="balanced", label_smoothing=0.1)(logits, labels, mix)
    weights = torch.from_numpy(60 / (3 * COUNTS))
    expected = torch.zeros((), dtype=torch.float64)
    for sample in range(len(labels)):
        factor = float(mix.factor[sample])
        for share, label in ((factor, labels[sample]), (1 - factor, labels[sample ^ 1])):
            target = 0.9 * functional.one_hot(label, 3).double() + 0.1 / 3
            expected -= share * weights[label] * (target * torch.log_softmax(logits[sample].double(), 0)).sum()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0.0)


@given(st.integers(0, 2**31), st.floats(0.1, 4.0))
def test_logit_adjustment_weighs_each_class_by_a_power_of_its_share(seed: int, tau: float) -> None:
    logits, labels = batch(seed)
    loss = built(logit_adjustment=tau)(logits, labels, None)
    weighed = torch.from_numpy(COUNTS / 60) ** tau * logits.double().exp()
    expected = -torch.log(weighed[torch.arange(8), labels] / weighed.sum(1))
    torch.testing.assert_close(loss.double(), expected.sum(), rtol=1e-5, atol=1e-6)


def test_all_options_together_apply_in_their_order() -> None:
    logits, labels = batch(5)
    mix = mixed()
    options = {"loss": "focal", "focal_gamma": 1.5, "class_weights": "balanced", "logit_adjustment": 0.5}
    adjusted = logits.double() + 0.5 * torch.from_numpy(np.log(COUNTS / 60))
    weights = torch.from_numpy(60 / (3 * COUNTS))
    parts = []
    for which in (labels, labels[mix.partner]):
        logarithm = log_p(adjusted, which)
        parts.append(-weights[which] * (1 - logarithm.exp()) ** 1.5 * logarithm)
    expected = (mix.factor * parts[0] + (1 - mix.factor) * parts[1]).sum()
    torch.testing.assert_close(built(**options)(logits, labels, mix).double(), expected, rtol=1e-5, atol=0.0)


def test_class_counts_that_cannot_be_are_refused_with_what_they_are() -> None:
    for counts in (np.array([3, 0, 2]), np.array([], dtype=np.int64), np.array([[1, 2]])):
        with pytest.raises(ValueError, match=r"class_counts=\[.*every class needs an image"):
            built(counts)
