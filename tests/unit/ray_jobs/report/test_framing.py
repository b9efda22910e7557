"""Where an axis ends: ordinary values are seen whatever a few wild ones are, and the wild ones are counted."""

import copy
import html
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.report.search_figures.framing import framed, outside
from ray_jobs.report.search_page import render_search

ORDINARY = st.lists(st.floats(0.05, 3.0), min_size=2, max_size=30)
WILD = st.sampled_from([1e3, 1e9, 1e30, -1e30, 1e300])


@given(ORDINARY, WILD, st.integers(0, 30))
def test_one_exploded_value_does_not_flatten_the_others(ordinary: list[float], wild: float, place: int) -> None:
    frame, beyond = framed([*ordinary[:place], wild, *ordinary[place:]])
    assert 1 <= beyond <= 1 + len(ordinary) / 2
    low, high = frame["range"]
    assert -10 < low < high < 10


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=7))
def test_of_few_shares_all_are_seen(values: list[float]) -> None:
    frame, beyond = framed(values)
    assert beyond == 0
    assert frame["range"][0] <= min(values) <= max(values) <= frame["range"][1]


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ([0.5, 1e30], 1),
        ([0.5, 0.6, 1e30, 1e25], 2),
        ([0.5] * 20 + [1e30], 1),  # the span of most is none
        ([4.0, 30.0], 0),
        ([1.1e7, 1.2e7], 0),
        ([0.0, 0.0, 0.9], 0),
        ([2.3, float("nan"), float("inf")], 0),
    ],
)
def test_what_lies_outside_is_counted(values: list[float], count: int) -> None:
    assert framed(values)[1] == count


def test_the_caption_says_how_many_lie_outside_and_how_many_are_not_drawn() -> None:
    assert outside(0) == ""
    assert outside(1) == " 1 far off lies beyond the frame: a double click shows all."
    assert "2 far off lie" in outside(2, 1)
    assert outside(0, 1) == " 1 is not finite (nan or inf) and not drawn."


@pytest.mark.parametrize("trials", [3, 12])
@pytest.mark.parametrize(
    ("loss", "said"), [(1e30, "1 far off lies beyond"), ("nan", "not finite"), ("inf", "not finite")]
)
def test_an_exploded_loss_leaves_its_chart_readable(
    make_search: Callable[..., dict[str, Any]], trials: int, loss: float | str, said: str
) -> None:
    search = copy.deepcopy(make_search(trials))
    for trial in search["trials"]:
        for epoch, row in enumerate(trial["history"]):
            row["val/loss"] = 1.5 - 0.1 * epoch
    search["trials"][1]["history"][0]["val/loss"] = loss
    page = render_search(search)
    figures = re.findall(r"<figure><figcaption><h3>val/loss</h3>(.*?)</figcaption>(.*?)</figure>", page, re.DOTALL)
    (caption, body), *_ = figures
    assert said in html.unescape(caption)
    spec = json.loads(re.findall(r"<script[^>]*>(.*?)</script>", body, re.DOTALL)[0])
    low, high = spec["layout"]["yaxis"]["range"]
    assert -1.0 < low < high < 3.0


@pytest.mark.parametrize("objective", [1e30, -1e30])
def test_an_exploded_objective_leaves_every_chart_readable(
    make_search: Callable[..., dict[str, Any]], objective: float
) -> None:
    search = copy.deepcopy(make_search(4))
    search["objectives"] = [{"metric": "val/loss", "direction": "minimize"}]
    for trial in search["trials"]:
        trial["values"] = [0.5 + 0.1 * trial["number"]]
    search["trials"][2]["values"] = [objective]
    page = render_search(search)
    specs = [
        json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    ]
    ranges = [
        spec["layout"]["yaxis"]["range"]
        for spec in specs
        if "val/loss" in spec["layout"].get("yaxis", {}).get("title", {}).get("text", "")
    ]
    assert len(ranges) > 3
    assert all(-2.0 < low < high < 4.0 for low, high in ranges)
    assert "far off lies beyond the frame" in page
