"""Thresholds of classes that matter more than others, chosen on a split."""

import numpy as np
from numpy.typing import NDArray

from resnet_dist.errors import RunError
from resnet_dist.runtime.operating_point import OperatingPoint


def least_found(recall: float, count: int) -> int:
    """The fewest of `count` samples that are this share of them, at least one; 1e-9 is what rounding may cost."""
    return max(int(np.ceil(recall * count - 1e-9)), 1)


def threshold_for_recall(probabilities: NDArray[np.float64], is_class: NDArray[np.bool_], recall: float) -> float:
    """A threshold that at least this share of the class's samples reach, and as few samples besides as can be.

    Half-way to the next smaller probability, for at the last sample's very own the rounding of another runtime would
    lose it. Of probabilities [N] of the class; `is_class` [N] says which samples are of it, at least one.
    """
    own = np.sort(probabilities[is_class])[::-1]
    last = float(own[least_found(recall, len(own)) - 1])
    below = float(probabilities[probabilities < last].max(initial=0.0))
    middle = (below + last) / 2
    return middle if middle > below else last


def threshold_for_costs(
    probabilities: NDArray[np.float64], is_class: NDArray[np.bool_], miss: float, alarm: float
) -> float:
    """The threshold of least cost: `miss` for each sample of the class below it, `alarm` for each other above.

    Half-way between two probabilities where it can be, so that it is not one sample's very own.
    """
    order = np.argsort(-probabilities, kind="stable")
    ordered, own = probabilities[order], is_class[order]
    # After the first k samples are called: the class's others are missed, and the others among them are alarms.
    missed = own.sum() - np.concatenate([[0], np.cumsum(own)])
    alarms = np.concatenate([[0], np.cumsum(~own)])
    costs = missed * miss + alarms * alarm
    # Samples of equal probability are called together, and no threshold keeps one of probability 1 from being called.
    edges = np.concatenate([[1.0], ordered, [0.0]])
    possible = np.concatenate([ordered[:1] < 1.0, ordered[1:] < ordered[:-1], [True]])
    called = int(np.flatnonzero(possible)[np.argmin(costs[possible])])
    return float((edges[called] + edges[called + 1]) / 2)


def choose(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    temperature: float,
    recalls: dict[str, float],
    costs: dict[str, tuple[float, float]],
    reject_below: float,
) -> OperatingPoint:
    """The operating point that was asked for, from calibrated probabilities [N, C] and labels [N].

    Raises RunError for a class that is not there or has no sample.
    """
    thresholds: dict[int, float] = {}
    for name in (*recalls, *costs):
        if name not in classes:
            raise RunError(f"a threshold is given for class {name!r}; the run learnt {', '.join(classes)}")
        number = classes.index(name)
        is_class = labels == number
        if not is_class.any():
            raise RunError(f"class {name!r} has no image in val to choose a threshold on; add some, or leave it out")
        own = probabilities[:, number]
        if name in recalls:
            thresholds[number] = threshold_for_recall(own, is_class, recalls[name])
        else:
            thresholds[number] = threshold_for_costs(own, is_class, *costs[name])
    return OperatingPoint(temperature, thresholds, reject_below)
