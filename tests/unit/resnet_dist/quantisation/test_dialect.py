"""What is left of numbers in 8 bits: half a step is lost at most, and zero is never moved."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from resnet_dist.quantisation.dialect import CPU, TENSORRT, Dialect, Quantiser, Range, quantised_weights

_VALUES = arrays.arrays(np.float32, 20, elements=st.floats(-1e4, 1e4, width=32))
_WEIGHTS = arrays.arrays(np.float32, (3, 2, 3, 3), elements=st.floats(-10, 10, width=32))


def rounded(values: "np.ndarray[tuple[int], np.dtype[np.float64]]", quantiser: Quantiser) -> "np.ndarray":
    limits = np.iinfo(quantiser.kind)
    steps = np.round(values / float(quantiser.scale)) + quantiser.zero_point
    return (np.clip(steps, limits.min, limits.max) - quantiser.zero_point) * float(quantiser.scale)


@given(_VALUES, st.sampled_from([CPU, TENSORRT]))
def test_values_within_their_range_lose_half_a_step_at_most(values: "np.ndarray", dialect: Dialect):
    exact = values.astype(np.float64)
    quantiser = dialect.quantiser(Range(float(values.min()), float(values.max())))
    assert 0 <= quantiser.zero_point <= 255
    lost = np.abs(rounded(exact, quantiser) - exact)
    # The zero point is a whole step, which may move a range by half of one.
    assert lost.max() <= float(quantiser.scale) * (1.0 + 1e-5) + 1e-30
    assert rounded(np.zeros(1), quantiser) == 0.0
    assert dialect is CPU or quantiser.zero_point == 0


@given(st.floats(0, 1e4), st.floats(0, 1e4))
def test_what_is_never_negative_has_zero_point_0_on_processors(low: float, high: float):
    quantiser = CPU.quantiser(Range(min(low, high), max(low, high)))
    assert (quantiser.zero_point, quantiser.kind) == (0, np.dtype(np.uint8))


@given(_WEIGHTS, st.sampled_from([7, 8]))
def test_each_output_of_weights_has_its_own_step(weights: "np.ndarray", bits: int):
    steps, scales = quantised_weights(weights, bits)
    assert np.abs(steps.astype(int)).max() <= (127 if bits == 8 else 63)
    assert scales.shape == (3,)
    assert (scales > 0).all()
    back = steps * scales.reshape(3, 1, 1, 1).astype(np.float64)
    assert (np.abs(back - weights) <= scales.reshape(3, 1, 1, 1) * (0.5 + 1e-4) + 1e-30).all()
