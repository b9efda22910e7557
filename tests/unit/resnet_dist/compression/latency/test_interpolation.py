import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from resnet_dist.compression.latency.interpolation import Grid, monotone

_arrays = arrays.arrays(
    np.float64,
    arrays.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5),
    elements=st.floats(-1e6, 1e6, allow_subnormal=False),
)


@given(_arrays)
def test_what_is_made_monotone_does_not_fall_and_stays_near(values: np.ndarray):
    found = monotone(values)
    for axis in range(values.ndim):
        assert (np.diff(found, axis=axis) >= 0.0).all()
    np.testing.assert_array_equal(monotone(found), found)
    assert values.min() <= found.min() <= found.max() <= values.max()
    rising = np.cumsum(np.abs(values), axis=0) if values.ndim == 1 else found
    np.testing.assert_array_equal(monotone(rising), rising)


@given(
    st.lists(st.lists(st.integers(1, 500), min_size=1, max_size=4, unique=True).map(sorted), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_a_multilinear_function_is_found_everywhere_and_a_grid_at_its_points(axes: list[list[int]], seed: int):
    draw = np.random.default_rng(seed)
    slopes = draw.random(len(axes))

    def product(points: np.ndarray) -> np.ndarray:
        return np.prod(1.0 + slopes * points, axis=1)

    places = np.stack([each.ravel() for each in np.meshgrid(*axes, indexing="ij")], axis=1)
    grid = Grid(tuple(map(tuple, axes)), tuple(product(places)))
    np.testing.assert_allclose(grid.at(places), product(places), rtol=1e-9)
    inside = np.stack([draw.integers(axis[0], axis[-1] + 1, 20) for axis in axes], axis=1)
    np.testing.assert_allclose(grid.at(inside), product(inside), rtol=1e-9)
    beyond = np.where([len(axis) > 1 for axis in axes], inside * 2, inside)
    np.testing.assert_allclose(grid.at(beyond), product(beyond), rtol=1e-6)


@pytest.mark.parametrize(
    ("axes", "values"),
    [(((16, 32),), (1.0,)), (((32, 16),), (1.0, 2.0)), (((16, 16),), (1.0, 2.0)), (((16,),), (np.nan,)), (((),), ())],
)
def test_a_grid_that_is_none_is_refused(axes: tuple[tuple[int, ...], ...], values: tuple[float, ...]):
    with pytest.raises(ValueError, match="axes ascend, and each of the"):
        Grid(axes, values)
