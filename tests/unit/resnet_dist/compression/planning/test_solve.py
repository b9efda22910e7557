import itertools
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.drawn_scores import DrawnScores, drawn_scores
from resnet_dist.compression.planning.costs import CostModel, byte_costs, mac_costs, parameter_costs, summed_cost
from resnet_dist.compression.planning.kept_scores import block_values, coarse_value
from resnet_dist.compression.planning.knapsack import CELLS
from resnet_dist.compression.planning.options import Choices, Scope, WidthSpace
from resnet_dist.compression.planning.solve import kept_share, reachable, solve_widths
from resnet_dist.compression.planning.target import Target
from resnet_dist.errors import UnreachableTargetError
from resnet_dist.model.layers import sites
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths

SIZE = (64, 64)
SMALL = Structure("resnet18", widths=Widths.parse("32 32:32,48 32:32,32 32:48,32 32:32,32", "resnet18"))
PRUNED = Structure(
    "resnet50",
    squeeze_excite=True,
    widths=Widths.parse(
        "32 64:32/16,-,32/32 128:32/32,48/32,-,- 128:32/16,-,-,32/32,-,- 128:32/32,-,16/32",
        "resnet50",
    ),
)


def _space(structure: Structure, scope: Scope, **choices: float) -> WidthSpace:
    return WidthSpace(structure, SIZE, replace(Choices(scope), **choices))


def _best_by_trying(space: WidthSpace, scores: DrawnScores, costs: CostModel, limits: list[float]) -> list[float]:
    """The greatest sum of scores of all networks of a space within each limit."""
    found = [-np.inf] * len(limits)
    for coarse in space.coarse:
        present = space.at(coarse, [block.taken(len(block.inner) - 1) for block in space.blocks])
        total_cost = np.array(costs.ends(coarse.stem, coarse.four))
        total_value = np.array(coarse_value(space, scores, coarse))
        places = [site for site, _ in sites(replace(space.structure, widths=present), space.size)]
        for site, block in zip(places, space.blocks, strict=True):
            cost = costs.block(site, block.inner)
            cost = np.append(cost, 0.0) if block.may_go else cost
            total_cost = np.add.outer(total_cost, cost)
            total_value = np.add.outer(total_value, block_values(space, scores, block))
        for number, limit in enumerate(limits):
            paid = total_value[total_cost <= limit]
            found[number] = max(found[number], float(paid.max()) if paid.size else -np.inf)
    return found


@pytest.mark.parametrize("structure", [SMALL, PRUNED], ids=lambda each: each.arch)
@pytest.mark.parametrize("scope", get_args(Scope))
def test_what_is_chosen_is_the_best_of_all_up_to_the_grid(structure: Structure, scope: Scope):
    space, costs = _space(structure, scope), mac_costs(structure, 10, SIZE)
    bounds = reachable(space, costs)
    for seed, share in enumerate((0.05, 0.3, 0.6, 0.95)):
        scores = drawn_scores(structure, seed)
        limit = bounds.smallest + share * (bounds.largest - bounds.smallest)
        widths = solve_widths(space, scores, costs, Target("macs", limit / 1e6, "M"))
        rounding = len(space.blocks) * limit / CELLS
        least, most = _best_by_trying(space, scores, costs, [limit - rounding, limit])
        assert costs.cost(widths) <= limit * (1 + 1e-12)
        whole = coarse_value(space, scores, space.coarse[0])
        whole += sum(float(block_values(space, scores, block)[len(block.inner) - 1]) for block in space.blocks)
        kept = whole * kept_share(space, scores, widths)
        assert least * (1 - 1e-12) <= kept <= most * (1 + 1e-12)


@st.composite
def problems(draw: st.DrawFn) -> tuple[WidthSpace, CostModel, Target]:
    arch = draw(st.sampled_from(["resnet18", "resnet50"]))
    scope: Scope = draw(st.sampled_from(["inner", "blocks"]))
    structure = Structure(arch, draw(st.booleans()), Widths.of(arch, draw(st.sampled_from([0.25, 0.3, 0.5]))))
    choices = Choices(scope, draw(st.sampled_from([8, 16, 24])), draw(st.floats(0.1, 1.0)))
    costs = draw(
        st.sampled_from(
            [mac_costs(structure, 10, SIZE), parameter_costs(structure, 10), byte_costs(structure, 10, 10**8)]
        )
    )
    return WidthSpace(structure, SIZE, choices), costs, Target("parameters", draw(st.floats(0.05, 0.99)), "x")


@settings(deadline=None)
@given(problems(), st.integers(0, 99))
def test_widths_are_those_that_may_be_chosen_and_cost_what_they_may(
    problem: tuple[WidthSpace, CostModel, Target], seed: int
):
    space, costs, target = problem
    structure, choices = space.structure, space.choices
    bounds = reachable(space, costs)
    scores = drawn_scores(structure, seed)
    try:
        widths = solve_widths(space, scores, costs, target)
    except UnreachableTargetError:
        assert not bounds.smallest < target.limit(bounds.largest) < bounds.largest
        return
    widths.check(structure.arch)
    assert bounds.smallest * (1 - 1e-12) <= costs.cost(widths) <= target.limit(bounds.largest) * (1 + 1e-12)
    for stage, own in zip(widths.stages, structure.layer_widths.stages, strict=True):
        assert stage.channels == own.channels
        for block, before in zip(stage.blocks, own.blocks, strict=True):
            for width, most in zip(block or (), before or (), strict=block is not None):
                assert width == most or (
                    width % choices.multiple == 0 and max(16, choices.floor * most) <= width < most
                )
            assert block is not None or choices.scope == "blocks"


@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
@pytest.mark.parametrize("squeeze_excite", [False, True])
def test_a_cost_is_the_sum_over_ends_and_blocks(arch: str, squeeze_excite: bool):
    factor = 1.0 if arch.startswith("resnext") else 0.4
    structure = Structure(arch, squeeze_excite, Widths.of(arch, factor))  # pyright: ignore[reportArgumentType]
    widths = structure.layer_widths
    dropped = widths.with_stage(
        2, replace(widths.stages[2], blocks=(*widths.stages[2].blocks[:1], None, *widths.stages[2].blocks[2:]))
    )
    for costs in (mac_costs(structure, 7, SIZE), parameter_costs(structure, 7), byte_costs(structure, 7, 10**9)):
        for each in (widths, dropped):
            assert summed_cost(costs, structure, each, SIZE) == pytest.approx(costs.cost(each), rel=1e-12)
        assert costs.cost(dropped) < costs.cost(widths)


def test_bytes_are_those_of_the_measured_file():
    structure = Structure("resnet18")
    assert byte_costs(structure, 10, 44_900_000).cost(structure.layer_widths) == 44_900_000
    # Of torchvision's ResNet-18: 11,689,512 parameters, of which BatchNorm's 4,800 shifts become biases.
    assert byte_costs(structure, 1000).cost(structure.layer_widths) == 4 * (11_689_512 - 4_800)


def test_a_network_of_grouped_convolutions_loses_blocks_alone():
    structure = Structure("resnext50_32x4d")
    for scope in ("inner", "all"):
        with pytest.raises(ValueError, match=r"grouped convolutions of resnext50_32x4d.*use scope 'blocks'"):
            _space(structure, scope)
    space, costs = _space(structure, "blocks"), mac_costs(structure, 10, SIZE)
    scores = drawn_scores(structure, 0)
    least = min(scores.branches, key=lambda name: scores.branches[name])
    widths = solve_widths(space, scores, costs, Target.parse("macs=0.97"))
    gone = [
        f"layer{place + 1}.{number}"
        for place, stage in enumerate(widths.stages)
        for number, block in enumerate(stage.blocks)
        if block is None
    ]
    assert gone == [least]


@pytest.mark.parametrize("scope", get_args(Scope))
@pytest.mark.parametrize("text", ["macs=0.01", "macs=10K"])
def test_a_target_out_of_reach_names_one_that_is_reached(scope: Scope, text: str):
    space, costs = _space(SMALL, scope), mac_costs(SMALL, 10, SIZE)
    scores = drawn_scores(SMALL, 0)
    with pytest.raises(UnreachableTargetError, match=r"out of reach: the nearest is macs=") as caught:
        solve_widths(space, scores, costs, Target.parse(text))
    nearest = Target.parse(str(caught.value).partition("nearest is ")[2].partition(";")[0])
    assert costs.cost(solve_widths(space, scores, costs, nearest)) <= nearest.limit(costs.cost(SMALL.layer_widths))


def test_a_target_that_is_already_met_is_said():
    space, costs = _space(SMALL, "inner"), mac_costs(SMALL, 10, SIZE)
    with pytest.raises(UnreachableTargetError, match=r"macs=9G: the network already has that, at macs=0\.0"):
        solve_widths(space, drawn_scores(SMALL, 0), costs, Target.parse("macs=9G"))


def test_a_ratio_may_be_of_another_network():
    space, costs = _space(SMALL, "inner"), mac_costs(SMALL, 10, SIZE)
    own = costs.cost(SMALL.layer_widths)
    widths = solve_widths(space, drawn_scores(SMALL, 0), costs, Target.parse("macs=0.4"), whole=2 * own)
    assert 0.7 * own < costs.cost(widths) <= 0.8 * own


def test_scores_of_another_network_are_refused():
    space, costs = _space(SMALL, "inner"), mac_costs(SMALL, 10, SIZE)
    scores = drawn_scores(SMALL, 0)
    target = Target.parse("macs=0.8")
    for other, reason in (
        (drawn_scores(Structure("resnet18"), 0), r"scores of stem are \[64\]; there are 32 channels"),
        (replace(scores, inner={}), r"scores of layer1.0.conv1 are none"),
        (replace(scores, streams=(-scores.streams[0], *scores.streams[1:])), r"at least 0"),
        (replace(scores, streams=(scores.streams[0] * np.nan, *scores.streams[1:])), r"finite"),
    ):
        with pytest.raises(ValueError, match=reason):
            solve_widths(space, other, costs, target)
    with pytest.raises(ValueError, match=r"layer1.0 has no score of its whole branch"):
        solve_widths(_space(SMALL, "blocks"), replace(scores, branches={}), costs, target)


def test_channels_without_a_score_go_first():
    space, costs = _space(SMALL, "inner"), mac_costs(SMALL, 10, SIZE)
    scores = drawn_scores(SMALL, 0)
    dead = np.where(np.arange(48) < 16, 1.0, 0.0)
    planted = replace(scores, inner=scores.inner | {"layer1.1": (dead,), "layer3.0": (dead,)})
    widths = solve_widths(space, planted, costs, Target.parse("macs=0.9"))
    assert widths.stages[0].blocks[1] == (16,)
    assert kept_share(space, planted, widths) == 1.0


@pytest.mark.parametrize(("choices", "reason"), [({"multiple": 0}, "at least 1"), ({"floor": 0.0}, r"in \(0, 1\]")])
def test_bounds_that_are_none_are_refused(choices: dict[str, float], reason: str):
    with pytest.raises(ValueError, match=reason):
        Choices(**choices)  # pyright: ignore[reportArgumentType]


def test_all_channels_are_tied_as_the_architecture_adds_them():
    for arch in ("resnet18", "resnet50"):
        space = WidthSpace(Structure(arch), SIZE, Choices("all"))
        assert len(space.coarse) == len(set(space.coarse))
        for coarse in itertools.islice(space.coarse, 0, None, 7):
            inner = [block.taken(0) for block in space.blocks]
            space.at(coarse, inner).check(arch)
