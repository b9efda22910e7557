import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from resnet_dist.errors import RunError
from resnet_dist.evaluation.operating_points import choose, least_found, threshold_for_costs, threshold_for_recall
from resnet_dist.runtime.operating_point import OperatingPoint

CLASSES = ("good", "crack", "hole")
probabilities = hnp.arrays(np.float64, st.integers(1, 40), elements=st.integers(0, 10).map(lambda n: n / 10))


@given(probabilities, st.floats(0.01, 1.0), st.data())
def test_a_threshold_for_recall_finds_its_share_and_no_larger_one_does(p, recall: float, data: st.DataObject):
    is_class = data.draw(hnp.arrays(bool, len(p)).filter(np.any))
    found = threshold_for_recall(p, is_class, recall)
    own = p[is_class]
    assert (own >= found).mean() >= recall - 1e-9
    last = own[own >= found].min()
    assert (own > last).mean() < recall
    assert ((p >= found) == (p >= last)).all()
    # Nor does the rounding of another runtime lose any, or find others.
    rounded = np.where(p > 0, p - 1e-7, p)
    assert ((rounded >= found) == (p >= found)).all()


@given(st.integers(1, 10_000), st.integers(1, 100))
def test_the_fewest_that_are_a_share_are_that_share_and_one_less_are_not(count: int, percent: int):
    found = least_found(percent / 100, count)
    assert 1 <= found <= count
    assert found * 100 >= percent * count  # in whole numbers, which do not round
    assert found == 1 or (found - 1) * 100 < percent * count


@given(probabilities, st.floats(0.1, 20), st.floats(0.1, 20), st.data())
def test_a_threshold_for_costs_is_the_cheapest(p, miss: float, alarm: float, data: st.DataObject):
    is_class = data.draw(hnp.arrays(bool, len(p)))

    def cost(threshold: float) -> float:
        called = p >= threshold
        return miss * (is_class & ~called).sum() + alarm * (~is_class & called).sum()

    values = np.unique(np.concatenate([p, [0.0, 1.0]]))
    others = [*values, *((low + high) / 2 for low, high in itertools.pairwise(values))]
    # Nothing is above 1, so that no threshold can keep a probability of 1 from being called.
    cheapest = min(cost(each) for each in others)
    assert cost(threshold_for_costs(p, is_class, miss, alarm)) <= cheapest + 1e-9


def chosen(**asked) -> OperatingPoint:
    p = np.array([[0.9, 0.05, 0.05], [0.6, 0.3, 0.1], [0.5, 0.45, 0.05], [0.2, 0.1, 0.7]])
    settings_ = {"recalls": {}, "costs": {}, "reject_below": 0.0} | asked
    return choose(p, np.array([0, 1, 1, 2]), CLASSES, 1.5, **settings_)


def test_the_operating_point_asked_for_is_chosen():
    point = chosen(recalls={"crack": 1.0}, costs={"hole": (5.0, 1.0)}, reject_below=0.4)
    assert point.temperature == 1.5
    assert point.thresholds[1] == pytest.approx(0.2)
    assert 0.1 < point.thresholds[2] < 0.7
    assert point.reject_below == 0.4
    assert chosen().thresholds == {}


def test_a_threshold_of_a_class_that_is_not_there_or_has_no_image_is_refused():
    with pytest.raises(RunError, match=r"class 'scratch'; the run learnt good, crack, hole"):
        chosen(recalls={"scratch": 0.9})
    with pytest.raises(RunError, match="'hole' has no image in val"):
        choose(np.full((2, 3), 1 / 3), np.array([0, 1]), CLASSES, 1.0, {"hole": 0.9}, {}, 0.0)
