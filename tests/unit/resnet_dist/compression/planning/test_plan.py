import json

import pytest

from benchmarks.drawn_scores import drawn_scores
from resnet_dist.compression.planning.costs import CountCosts, byte_costs
from resnet_dist.compression.planning.options import Choices, Scores, WidthSpace
from resnet_dist.compression.planning.plan import Measured, Plan, Prices, describe
from resnet_dist.compression.planning.solve import solve_widths
from resnet_dist.compression.planning.target import Target
from resnet_dist.model.layers import layers
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths

STRUCTURE, SIZE = Structure("resnet50"), (64, 64)
LATENCY = CountCosts(STRUCTURE, 10, SIZE, lambda layer: layer.macs / 1e8)


def planned(space: WidthSpace, scores: Scores, text: str, measured: Measured) -> Plan:
    target, prices = Target.parse(text), Prices.of(space, 10, measured)
    return describe(space, scores, target, prices, solve_widths(space, scores, prices.of_target(target), target))


@pytest.mark.parametrize(
    ("text", "figure"),
    [
        ("macs=0.5", "macs"),
        ("parameters=0.5", "parameters"),
        ("bytes=0.5x@onnx", "bytes"),
        ("latency=0.5x@onnx", "milliseconds"),
    ],
)
def test_a_plan_says_what_both_networks_cost(text: str, figure: str):
    space, scores = WidthSpace(STRUCTURE, SIZE), drawn_scores(STRUCTURE, 0)
    plan = planned(space, scores, text, Measured(100_000_000, LATENCY))
    value = json.loads(json.dumps(plan.to_json()))
    before, after = value["before"][figure], value["after"][figure]
    assert 0.45 * before < after <= 0.5 * before
    assert value["reachable"]["smallest"] < after < value["reachable"]["largest"] == pytest.approx(before)
    assert 0.5 < value["kept_share"] < 1.0
    assert Widths.from_json(value["after"]["widths"], "resnet50") == plan.after.widths
    assert plan.before == STRUCTURE
    assert value["after"]["macs"] == sum(layer.macs for layer in layers(plan.after, 10, SIZE))
    assert value["after"]["parameters"] == sum(layer.parameters for layer in layers(plan.after, 10, SIZE))
    saved = byte_costs(STRUCTURE, 10).cost(STRUCTURE.layer_widths) - byte_costs(plan.after, 10).cost(
        plan.after.layer_widths
    )
    assert value["after"]["bytes"] == 100_000_000 - saved


def test_what_was_not_measured_is_not_told():
    space, scores = WidthSpace(STRUCTURE, SIZE, Choices("blocks")), drawn_scores(STRUCTURE, 0)
    value = planned(space, scores, "macs=0.8", Measured()).to_json()
    assert value["after"]["bytes"] is None
    assert value["after"]["milliseconds"] is None
    with pytest.raises(ValueError, match=r"latency=0\.8x@onnx needs a latency table of format onnx"):
        planned(space, scores, "latency=0.8x@onnx", Measured())
