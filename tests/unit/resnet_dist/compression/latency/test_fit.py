from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from benchmarks.drawn_scores import drawn_scores
from resnet_dist.compression.latency.fit import TOLERANCE, TRIES, fit_to_latency
from resnet_dist.compression.planning.costs import CountCosts
from resnet_dist.compression.planning.options import Choices, WidthSpace
from resnet_dist.compression.planning.target import Target
from resnet_dist.errors import UnreachableTargetError
from resnet_dist.model.layers import layers
from resnet_dist.model.structure import Structure

STRUCTURE, SIZE = Structure("resnet50"), (64, 64)
SPACE = WidthSpace(STRUCTURE, SIZE)
COSTS = CountCosts(STRUCTURE, 10, SIZE, lambda layer: layer.macs / 1e8)
"""Milliseconds, on a machine that takes 0.01 ns for each multiplication."""


def _machine(law: Callable[[float], float]) -> Callable[[Mapping[str, Structure]], Mapping[str, float]]:
    """One that takes another time than is predicted."""
    return lambda structures: {
        name: law(sum(layer.macs for layer in layers(each, 10, SIZE)) / 1e8) for name, each in structures.items()
    }


@pytest.mark.parametrize("text", ["latency=0.5x@onnx", "latency=0.7x@openvino", "latency=2ms@onnx"])
@pytest.mark.parametrize(
    "law",
    [
        lambda ms: ms,
        lambda ms: 0.5 + 0.8 * ms,
        lambda ms: 1.1 * ms**0.8,
        lambda ms: 0.8 * ms**1.15,
    ],
    ids=["as predicted", "with overhead", "falling slowly", "falling fast"],
)
def test_a_machine_that_takes_another_time_is_met(text: str, law: Callable[[float], float]):
    target = Target.parse(text)
    fit = fit_to_latency(SPACE, drawn_scores(STRUCTURE, 0), COSTS, target, _machine(law))
    dense = law(COSTS.cost(STRUCTURE.layer_widths))
    assert fit.is_within
    assert len(fit.attempts) <= TRIES
    assert fit.best.measured == pytest.approx(law(COSTS.cost(fit.best.widths)))
    assert fit.best.dense == pytest.approx(dense)
    assert abs(fit.best.measured / target.limit(dense) - 1.0) <= TOLERANCE
    assert abs(fit.best.ratio * dense / target.limit(dense) - 1.0) <= TOLERANCE


def test_a_machine_that_gains_nothing_is_given_up():
    fit = fit_to_latency(
        SPACE, drawn_scores(STRUCTURE, 0), COSTS, Target.parse("latency=0.5x@onnx"), _machine(lambda _: 9.0)
    )
    assert not fit.is_within
    assert fit.best.excess == pytest.approx(1.0)
    assert len({each.widths for each in fit.attempts}) == len(fit.attempts) <= TRIES


def test_blocks_that_leave_no_other_choice_end_the_search():
    space = WidthSpace(STRUCTURE, SIZE, Choices("blocks"))
    fit = fit_to_latency(
        space, drawn_scores(STRUCTURE, 0), COSTS, Target.parse("latency=0.9x@onnx"), _machine(lambda ms: ms + 3)
    )
    assert len({each.widths for each in fit.attempts}) == len(fit.attempts) <= TRIES


def test_a_ratio_may_be_of_the_network_before_it_was_pruned_once():
    once = fit_to_latency(
        SPACE, drawn_scores(STRUCTURE, 0), COSTS, Target.parse("latency=0.7x@onnx"), _machine(lambda ms: ms)
    )
    pruned = replace(STRUCTURE, widths=once.best.widths)
    again = fit_to_latency(
        WidthSpace(pruned, SIZE),
        drawn_scores(pruned, 1),
        COSTS,
        Target.parse("latency=0.5x@onnx"),
        _machine(lambda ms: ms),
        dense=STRUCTURE,
    )
    assert again.best.measured == pytest.approx(0.5 * COSTS.cost(STRUCTURE.layer_widths), rel=TOLERANCE)


def test_a_target_out_of_reach_is_refused_before_anything_is_measured():
    def measure(structures: Mapping[str, Structure]) -> Mapping[str, float]:
        raise RuntimeError(f"measured {list(structures)}")

    for text, reason in (("latency=0.1x@onnx", r"nearest is latency=0\.\d+x@onnx"), ("latency=9s@onnx", "already has")):
        with pytest.raises(UnreachableTargetError, match=reason):
            fit_to_latency(SPACE, drawn_scores(STRUCTURE, 0), COSTS, Target.parse(text), measure)
