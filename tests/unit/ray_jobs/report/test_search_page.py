"""The page of a search: what it shows, that nothing in the data becomes markup, and that it stays small."""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import plotly.graph_objects
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plotly.offline import get_plotlyjs

from ray_jobs.report.page import Section, render_page
from ray_jobs.report.search_page import render_search
from resnet_dist.errors import ReportError, RunError
from tests.laws import examples

Search = dict[str, Any]
MakeSearch = Callable[..., Search]
SCRIPT_BYTES = len(get_plotlyjs().encode())
NASTY = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "\"><a href='javascript:alert(1)'>",
    "<a href='https://example.org'>link</a>",
    "&lt;b&gt; %{x} $x^2$",
    "line\u2028end\u2029\x00\x1b[31m",
    "half \ud800 pair",
    "x" * 5000,
    "",
]


FIXED = {
    *("finished", "stopped", "diverged", "failed", "running", "maximize", "minimize"),
    *("log_uniform", "uniform", "int", "categorical", "nan", "inf", "-inf"),
}
"""Texts that the schema knows."""


class Document(HTMLParser):
    """Counts tags, and keeps what figures are made of and what a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.seen: list[str] = []
        self.figures: list[dict[str, Any]] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = "json" if dict(attrs).get("type") == "application/json" else tag

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - as it is called
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "json":
            self.figures.append(json.loads(data))
        elif self._inside not in {"script", "style"}:
            self.seen.append(data)

    def count(self, tag: str) -> int:
        return sum(found == tag for found, _ in self.tags)

    @property
    def text(self) -> str:
        return " ".join(self.seen)


def document(search: Search) -> Document:
    text = render_search(search)
    text.encode()
    return Document(text)


def all_failed(search: Search) -> Search:
    for trial in search["trials"]:
        trial.update(state="failed", values=[None] * len(search["objectives"]), history=[], error="a\nb: boom")
    return search | {"best": None, "front": [], "importance": None, "test": None, "reuse": None}


@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize("trials", [0, 1, 3, 40])
def test_every_figure_is_one_that_plotly_knows(make_search: MakeSearch, trials: int, objectives: int) -> None:
    found = document(make_search(trials, objectives))
    assert found.count("figure") == len(found.figures)
    for figure in found.figures:
        plotly.graph_objects.Figure(figure)
        assert figure["data"]
    assert ("Pareto front" in found.text) == (objectives > 1 and trials > 0)


def test_the_summary_compares_best_and_default(make_search: MakeSearch) -> None:
    search = make_search(40)
    best, default = (search["trials"][number]["values"][0] for number in (search["best"], 0))
    text = document(search).text
    assert f"Trial {search['best']} is the best: val/macro_f1 {best:.4g} (more is better)" in text
    assert f"{default:.4g}: the best is better by {best - default:.4g}" in text
    assert "does not hold zero" in text
    assert f"{search['epochs']['full_search']} of a full search" in text


def test_less_may_be_better(make_search: MakeSearch) -> None:
    search = make_search(12)
    search["objectives"] = [{"metric": "val/loss", "direction": "minimize"}]
    search["best"] = 0
    for trial in search["trials"]:
        trial["values"] = [1.0 + trial["number"]]
        trial["is_default"] = trial["number"] == 3
    assert "the best is better by 3" in document(search).text
    line = document(search).figures[0]["data"][0]
    assert line["name"] == "best so far"
    assert set(line["y"]) == {1.0}


def test_a_search_that_failed_says_why(make_search: MakeSearch) -> None:
    found = document(all_failed(make_search(6)))
    assert "The first error, of trial 0: b: boom" in found.text
    assert "No trial has a value" in found.text


def test_a_condition_is_said_and_trials_without_the_field_are_not_drawn(make_search: MakeSearch) -> None:
    search = make_search(40)
    having = [t for t in search["trials"] if "schedule.peak_fraction" in t["params"] and t["values"][0] is not None]
    text = document(search).text
    assert f"{len(having)} trials with a value; searched where schedule.kind is one_cycle" in text
    assert "fields that a trial does not have" in text


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", 1e308, -1e308, 5e-324, 10**400])
def test_numbers_that_no_axis_can_show_are_left_out(make_search: MakeSearch, number: float | str) -> None:
    search = copy.deepcopy(make_search(12, 2))
    search["space"][0] |= {"low": number, "high": number}
    search["importance"]["optimizer.learning_rate"] = number
    search["pool"] |= dict.fromkeys(["wall_s", "waiting_s", "startup_s", "training_s"], number)
    search["test"] |= {"difference": number, "difference_interval": [number, number]}
    for trial in search["trials"][::2]:
        trial["values"] = [number, number]
        trial |= {"queued_s": number, "started_s": number, "ended_s": number}
        trial["params"] |= {"optimizer.learning_rate": number, "augmentation.mixup": number}
        for row in trial["history"]:
            row["val/loss"] = number
    for figure in document(search).figures:
        plotly.graph_objects.Figure(figure)


@settings(max_examples=examples(0.6), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.floats() | st.integers(), min_size=12, max_size=12))
def test_any_numbers_make_a_page(make_search: MakeSearch, numbers: list[float]) -> None:
    search = copy.deepcopy(make_search(12))
    for trial, number in zip(search["trials"], numbers, strict=True):
        trial |= {"values": [number], "started_s": number, "ended_s": -number}
        trial["params"] |= {"optimizer.learning_rate": number, "augmentation.mixup": number}
    assert document(search).figures


def replaced(value: Any, texts: Callable[[], str], key: str = "") -> Any:
    """Every text of a search but those that the schema knows, and every key that is data."""
    match value:
        case dict():
            is_data = key in {"params", "when", "importance"}
            return {(texts() if is_data else name): replaced(each, texts, name) for name, each in value.items()}
        case list():
            return [replaced(each, texts, key) for each in value]
        case str() if value not in FIXED:
            return texts()
        case _:
            return value


def assert_nothing_escapes(search: Search, plain: Document, texts: Callable[[], str]) -> None:
    nasty = replaced(copy.deepcopy(search), texts)
    # The fields that trials have are still those of the space.
    names = {field["field"]: new["field"] for field, new in zip(search["space"], nasty["space"], strict=True)}
    for trial, new in zip(search["trials"], nasty["trials"], strict=True):
        new["params"] = {names[name]: replaced(value, texts) for name, value in trial["params"].items()}
    text = render_search(nasty)
    text.encode()
    found = Document(text)
    assert found.count("script") == len(found.figures) + 2
    assert {tag for tag, _ in found.tags} <= {tag for tag, _ in plain.tags} | {"details", "summary", "pre"}
    for tag, attributes in found.tags:
        assert not any(name.startswith("on") or name in {"src", "srcset", "action"} for name in attributes)
        assert attributes.get("href", "#").startswith("#"), tag
    for figure in found.figures:
        for string in strings(figure):
            assert set(re.findall(r"<[^>]*>?", string)) <= {"<br>", "<b>", "</b>"}
            assert "template" not in string


def strings(value: Any) -> list[str]:
    match value:
        case dict():
            assert not [name for name in value if name.endswith("template")]
            return [each for inner in value.values() for each in strings(inner)]
        case list():
            return [each for inner in value for each in strings(inner)]
        case str():
            return [value]
        case _:
            return []


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_no_text_becomes_markup(make_search: MakeSearch, text: str) -> None:
    search = make_search(12, 2)
    assert_nothing_escapes(search, document(search), lambda: text)


@settings(max_examples=examples(0.6), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(texts=st.lists(st.text() | st.text("<>/&!-\"'scriptb\u2028 ") | st.sampled_from(NASTY), min_size=1, max_size=5))
def test_no_texts_become_markup(make_search: MakeSearch, texts: list[str]) -> None:
    search, turn = make_search(6, 2), iter(range(10**9))
    assert_nothing_escapes(search, document(search), lambda: texts[next(turn) % len(texts)])


@pytest.mark.parametrize(
    ("trials", "most"), [(40, 500_000), (1000, 3_000_000), pytest.param(10_000, 12_000_000, marks=pytest.mark.slow)]
)
def test_a_page_stays_small(make_search: MakeSearch, trials: int, most: int) -> None:
    assert len(render_search(make_search(trials, 2)).encode()) < SCRIPT_BYTES + most


def test_long_histories_and_wide_spaces_stay_small(make_search: MakeSearch) -> None:
    space = [{"field": f"section.field_{n}", "kind": "uniform", "low": 0, "high": 1} for n in range(256)]
    search = copy.deepcopy(make_search(300, 3, space))
    for trial in search["trials"]:
        trial["history"] = [{"epoch": epoch, "val/loss": 1 / epoch} for epoch in range(1, 1001)]
    assert len(render_search(search).encode()) < SCRIPT_BYTES + 12_000_000


DAMAGE: list[tuple[str, Callable[[Search], Any]]] = [
    ("schema 2", lambda search: search.update(schema=2)),
    ("schema '1'", lambda search: search.update(schema="1")),
    ("schema None", lambda search: search.pop("schema")),
    ("trials: ", lambda search: search.pop("trials")),
    ("trial 1 has 2 values for 1 objectives", lambda search: search["trials"][1]["values"].append(1)),
    ("two trials have one number", lambda search: search["trials"][1].update(number=0)),
    ("best and front name trials that are not there, such as 99", lambda search: search.update(best=99)),
    ("trials.0.state", lambda search: search["trials"][0].update(state="lost")),
    ("trials.0.values.0", lambda search: search["trials"][0].update(values=["0.5"])),
    ("trials.0.values.0", lambda search: search["trials"][0].update(values=[True])),
    ("trials.0.params.a", lambda search: search["trials"][0]["params"].update(a=object())),
    ("objectives", lambda search: search.update(objectives=[])),
    ("trials", lambda search: search.update(trials=search["trials"] * 5000)),
]


@pytest.mark.parametrize(("said", "damage"), DAMAGE, ids=[f"{n} {said}" for n, (said, _) in enumerate(DAMAGE)])
def test_a_damaged_record_is_refused(make_search: MakeSearch, said: str, damage: Callable[[Search], Any]) -> None:
    search = copy.deepcopy(make_search(4))
    damage(search)
    with pytest.raises(RunError, match="start the search again") as caught:
        render_search(search)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_what_a_newer_writer_adds_is_left_out(make_search: MakeSearch) -> None:
    assert render_search(make_search(3) | {"news": 1}) == render_search(make_search(3))


def test_the_page_has_all_it_needs_and_may_load_nothing(make_search: MakeSearch) -> None:
    text = render_search(make_search(3))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy[1]
    assert "unsafe-inline" not in policy[1].split("style-src")[0]
    assert len(text.encode()) < SCRIPT_BYTES + 500_000


def test_without_plotly_it_says_what_to_install() -> None:
    code = """
import sys
from ray_jobs.report.page import render_page
class Without:
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "plotly":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Without())
render_page("a", "b", [])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert f"{ReportError.__name__}: plotly is not installed" in done.stderr
    assert "pip install 'resnet-dist[report]'" in done.stderr


def test_pages_have_links_to_their_sections() -> None:
    found = Document(render_page("a < b", "", [Section("one & two", ())]))
    assert ("a", {"href": "#section-0"}) in found.tags
    assert "one & two" in found.text
