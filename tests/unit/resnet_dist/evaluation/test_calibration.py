import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from resnet_dist.errors import RunError
from resnet_dist.evaluation.calibration import HIGHEST, LOWEST, expected_calibration_error, fit_temperature
from resnet_dist.evaluation.metrics import log_losses
from resnet_dist.runtime.operating_point import OperatingPoint
from tests.laws import examples

seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, sure: float = 2.0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits that are sometimes wrong: a label is drawn from their softmax at another temperature."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (400, 5)).astype(np.float32)
    powers = np.exp(logits.astype(np.float64) / sure)
    shares = np.cumsum(powers / powers.sum(axis=1, keepdims=True), axis=1)
    return logits, (generator.random((400, 1)) > shares).sum(axis=1).astype(np.int64)


@settings(max_examples=examples(0.2))
@given(seeds)
def test_no_other_temperature_has_less_log_loss(seed: int):
    logits, labels = drawn(seed)
    best = fit_temperature(logits, labels)
    least = log_losses(logits / np.float32(best), labels).mean()
    for factor in (0.8, 0.95, 1.05, 1.3):
        assert log_losses(logits / np.float32(best * factor), labels).mean() >= least - 1e-9


def test_the_temperature_that_labels_were_drawn_at_is_found():
    found = [fit_temperature(*drawn(seed, sure=3.0)) for seed in range(20)]
    assert np.mean(found) == pytest.approx(3.0, rel=0.1)


@settings(max_examples=examples(0.2))
@given(seeds, st.floats(0.5, 2.0))
def test_logits_times_a_factor_have_the_temperature_times_it(seed: int, factor: float):
    logits, labels = drawn(seed)
    assert fit_temperature(logits * np.float32(factor), labels) == pytest.approx(
        factor * fit_temperature(logits, labels), rel=1e-3
    )


def test_a_split_without_an_error_leaves_doubt_by_its_size_and_one_without_a_right_answer_is_bounded():
    for count in (4, 40, 4000):
        logits = np.eye(4, dtype=np.float32)[np.arange(count) % 4] * 5
        labels = np.arange(count, dtype=np.int64) % 4
        found = OperatingPoint(fit_temperature(logits, labels)).probabilities(logits).max(axis=1)
        assert found == pytest.approx((count + 1) / (count + 2))
        assert fit_temperature(logits, (labels + 1) % 4) == HIGHEST
    huge = np.full((2, 2), 0.0, dtype=np.float32)
    huge[:, 0] = 1e-6
    assert fit_temperature(huge, np.zeros(2, dtype=np.int64)) == LOWEST


def test_logits_that_are_not_finite_are_refused():
    logits, labels = drawn(0)
    logits[3, 2] = np.nan
    with pytest.raises(RunError, match="not finite"):
        fit_temperature(logits, labels)


@settings(max_examples=examples(0.2))
@given(seeds)
def test_the_calibration_error_is_that_of_its_definition(seed: int):
    logits, labels = drawn(seed)
    probabilities = OperatingPoint().probabilities(logits)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    expected = 0.0
    for number in range(15):
        inside = (confidence >= number / 15) & ((confidence < (number + 1) / 15) | (number == 14))
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected, abs=1e-12)


def test_scaling_by_the_fitted_temperature_lowers_the_calibration_error():
    logits, labels = drawn(1, sure=3.0)
    before = expected_calibration_error(OperatingPoint().probabilities(logits), labels)
    after = expected_calibration_error(OperatingPoint(fit_temperature(logits, labels)).probabilities(logits), labels)
    assert after < 0.5 * before
