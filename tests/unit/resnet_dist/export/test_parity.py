import numpy as np
import pytest
from numpy.typing import NDArray

from resnet_dist.export.parity import Parity, Reference, ReferenceAnswers, check_parity
from resnet_dist.runtime.bundle import Precision
from resnet_dist.runtime.operating_point import OperatingPoint


def answered(count: int, seed: int = 0) -> ReferenceAnswers:
    """Images whose first values say which they are; logits far from ties, right four times of five."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    logits = generator.normal(0, 1, (count, 3)).astype(np.float32)
    answers = np.where(np.arange(count) % 5 == 0, (labels + 1) % 3, labels)
    logits[np.arange(count), answers] += 10
    images = np.zeros((count, 2, 2, 3), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
    return ReferenceAnswers(images, labels, logits)


def checked(
    precision: Precision,
    val_logits: NDArray[np.float32],
    val: ReferenceAnswers,
    noise_logits: NDArray[np.float32] | None = None,
    point: OperatingPoint | None = None,
    recalls: dict[str, float] | None = None,
) -> Parity:
    noise = answered(50, 1)
    noise.images[:, 0, 0, 2] = 1
    on_noise = noise.logits if noise_logits is None else noise_logits

    def engine(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows = images[:, 0, 0, 0].astype(int) + 256 * images[:, 0, 0, 1].astype(int)
        return (on_noise if images[0, 0, 0, 2] else val_logits)[rows]

    reference = Reference(val, noise, point or OperatingPoint(), ("a", "b", "c"), recalls or {})
    return check_parity(engine, precision, reference, 0.005, 2_000_000, 16)


def test_a_format_that_answers_the_same_passes_in_each_precision():
    val = answered(1000)
    for precision in ("fp32", "fp16", "bf16", "int8"):
        found = checked(precision, val.logits, val)
        assert (found.verdict, found.reason) == ("passed", "")
        assert found.agreement == found.agreement_on_noise == 1.0
        assert found.max_logit_difference == 0.0
        assert found.top1 == pytest.approx(0.8)
        assert found.megabytes == 2.0


def test_fp32_with_another_answer_or_other_logits_is_refused():
    val = answered(100)
    other = val.logits.copy()
    other[7] = np.roll(other[7], 1)
    assert checked("fp32", other, val).verdict == "refused"
    assert checked("fp32", val.logits * np.float32(1.0005), val).verdict == "passed"
    assert checked("fp32", val.logits * np.float32(1.002), val).verdict == "refused"


def test_fp32_may_break_a_tie_otherwise():
    val = answered(100)
    val.logits[0] = [5.0, 5.0, 0.0]
    other = val.logits.copy()
    other[0] = [4.9999, 5.0001, 0.0]
    assert checked("fp32", other, val).verdict == "passed"
    assert checked("fp32", other, val).agreement == 0.99


def test_fp32_is_judged_on_noise_too():
    val, noise = answered(100), answered(50, 1)
    assert checked("fp32", val.logits, val, np.roll(noise.logits, 1, axis=1)).verdict == "refused"


@pytest.mark.parametrize(("changed", "verdict"), [(5, "passed"), (6, "refused")])
def test_half_precision_may_answer_one_of_two_hundred_otherwise(changed: int, verdict: str):
    val = answered(1000)
    other = val.logits.copy()
    other[:changed] = np.roll(other[:changed], 1, axis=1)
    assert checked("bf16", other, val).verdict == verdict


def test_int8_is_judged_by_its_paired_loss():
    val = answered(1000)
    broken = val.logits.copy()
    broken[:100] = np.roll(broken[:100], 1, axis=1)
    found = checked("int8", broken, val)
    assert found.verdict == "refused"
    assert found.reason.startswith("top-1 falls by ")
    assert "0.50 are allowed" in found.reason

    few = answered(40)
    assert checked("int8", few.logits, few).verdict == "inconclusive"


def test_a_format_that_misses_the_recall_asked_for_is_refused():
    val = answered(1000)
    wrong = np.arange(1000) % 5 == 0
    val.logits[wrong] = val.logits[~wrong][: wrong.sum()]  # all are sure of something
    val.labels[:] = val.logits.argmax(axis=1)
    point, recalls = OperatingPoint(thresholds={2: 0.99}, reject_below=0.5), {"c": 0.99}
    exact = checked("int8", val.logits, val, point=point, recalls=recalls)
    assert (exact.verdict, exact.recalls) == ("passed", {"c": 1.0})
    # The format answers as the model does, and is less sure of one in twenty.
    other, images = val.logits.copy(), np.flatnonzero(val.labels == 2)
    other[images[::20]] = [0.0, 0.0, 4.0]
    found = checked("int8", other, val, point=point, recalls=recalls)
    assert (found.agreement, found.top1_difference) == (1.0, 0.0)
    assert found.verdict == "refused"
    count, all_ = len(images) - len(images[::20]), len(images)
    assert found.recalls["c"] == pytest.approx(count / all_)
    assert found.reason.startswith(f"on val {count} of {all_} images of c are found")
    assert "99 % are asked for: ask for more" in found.reason


def test_logits_that_are_not_finite_are_refused_and_leave_numbers_that_json_holds():
    val = answered(100)
    broken = val.logits.copy()
    broken[3, 1] = np.inf
    found = checked("int8", broken, val)
    assert found.verdict == "refused"
    assert np.isfinite(found.max_logit_difference)
    assert np.isfinite(found.calibration_error)
