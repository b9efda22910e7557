"""Fake quantisers round as files do, and let gradients through where values are kept."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnet_dist.errors import RunError
from resnet_dist.quantisation.dialect import CPU, Range, quantised_weights
from resnet_dist.quantisation.fake_quantisers import WEIGHT_BITS, FakeQuantiser, fake_quantised_weights, watching

finite = st.floats(-1e3, 1e3, width=32)


@given(st.lists(finite, min_size=1, max_size=50), finite, finite)
def test_values_become_steps_of_the_range_as_in_a_file(values: list[float], one: float, other: float) -> None:
    quantiser = FakeQuantiser(Range(min(one, other), max(one, other)))
    numbers = CPU.quantiser(quantiser.values)
    rounded = quantiser(torch.tensor(values))
    steps = np.clip(np.round(np.array(values) / float(numbers.scale)) + numbers.zero_point, 0, 255)
    expected = (steps - numbers.zero_point) * float(numbers.scale)
    # A value between two steps may fall to either: the quotient is rounded otherwise in float32.
    assert np.abs(rounded.numpy() - expected).max() <= float(numbers.scale) * 1.001
    assert torch.equal(quantiser(rounded), rounded)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 6))
def test_weights_become_those_of_a_file(seed: int, outputs: int, inputs: int) -> None:
    weights = torch.randn((outputs, inputs, 3, 3), generator=torch.Generator().manual_seed(seed))
    weights[0] *= 0.0 if seed % 2 else 1.0
    steps, scales = quantised_weights(weights.numpy(), WEIGHT_BITS)
    expected = torch.from_numpy(steps.astype(np.float32) * scales[:, None, None, None])
    difference = (fake_quantised_weights(weights) - expected).abs().amax((1, 2, 3))
    assert (difference <= torch.from_numpy(scales) * 1.001).all()
    assert (difference > torch.from_numpy(scales) * 1e-3).sum() <= 1  # a tie


def test_gradients_pass_inside_the_range_and_nowhere_else() -> None:
    values = torch.tensor([-2.0, -0.5, 0.3, 0.9, 3.0], requires_grad=True)
    FakeQuantiser(Range(-1.0, 1.0))(values).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
    weights = torch.randn(3, 4, 1, 1, requires_grad=True)
    fake_quantised_weights(weights).sum().backward()
    assert weights.grad is not None
    assert torch.equal(weights.grad, torch.ones_like(weights))


def test_before_a_relu_no_step_is_spent_on_what_it_drops() -> None:
    quantiser = FakeQuantiser(Range(-3.0, 1.0), before_relu=True)
    assert quantiser.values == Range(0.0, 1.0)
    assert quantiser(torch.tensor([-2.0, 0.5])).tolist() == [0.0, pytest.approx(0.5, abs=1 / 510)]


def test_extremes_of_all_that_passes_become_the_range() -> None:
    one, other = FakeQuantiser(Range(-1.0, 1.0)), FakeQuantiser(Range(-1.0, 1.0))
    with watching([one, other]):
        assert one(torch.tensor([0.123, 5.0])).tolist() == [pytest.approx(0.123), 5.0]
        one(torch.tensor([-7.0]))
        other(torch.tensor([2.0]))
    assert (one.values, other.values) == (Range(-7.0, 5.0), Range(2.0, 2.0))
    with pytest.raises(RunError, match="no values"), watching([one, other]):
        one(torch.tensor([9.0]))
    for values in ([float("nan"), 1.0], [1.0, float("inf")]):
        with pytest.raises(RunError, match="not finite"), watching([one]):
            _ = [one(torch.tensor(each)) for each in (values, [-2.0, 3.0])]
    assert one.values == Range(-7.0, 5.0)
    assert one.watched is None


def test_a_tensor_that_is_always_zero_stays_zero() -> None:
    assert FakeQuantiser(Range(0.0, 0.0))(torch.zeros(3)).tolist() == [0.0] * 3
    assert torch.equal(fake_quantised_weights(torch.zeros(2, 3)), torch.zeros(2, 3))
