"""Reports from a storage root, found by name or by place."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ray_jobs.errors import ConfigError
from ray_jobs.search.report_page import run_report
from resnet_dist.errors import RunError
from resnet_dist.sealed_json import sealed


@pytest.fixture
def root(tmp_path: Path, make_search: Callable[..., dict[str, Any]]) -> Path:
    """A storage root with the search "found", and the run "trained"."""
    (tmp_path / "searches" / "found").mkdir(parents=True)
    (tmp_path / "searches" / "found" / "search.json").write_text(json.dumps(make_search(3)))
    (tmp_path / "runs" / "trained").mkdir(parents=True)
    (tmp_path / "runs" / "trained" / "config.toml").write_text("")
    return tmp_path


@pytest.mark.parametrize("place", ["found", "{root}/searches/found", "file://{root}/searches/found"])
def test_a_search_is_found_by_name_path_or_uri(root: Path, place: str) -> None:
    written = run_report(place.format(root=root), str(root))
    page = root / "searches" / "found" / "report" / "index.html"
    assert written.removeprefix("file://") == str(page)
    assert "casting-defects" in page.read_text(encoding="utf-8")


def test_a_report_is_made_anew(root: Path) -> None:
    first = Path(run_report("found", str(root)))
    first.write_text("old")
    assert run_report("found", str(root)) == str(first)
    assert first.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("target", ["trained", "{root}/runs/trained"])
def test_a_run_has_no_report(root: Path, target: str) -> None:
    with pytest.raises(ConfigError, match="is a run, and only searches have reports"):
        run_report(target.format(root=root), str(root))


@pytest.mark.parametrize(("target", "said"), [("lost", "searches there: found"), ("{root}/lost", "has no search.json")])
def test_what_is_no_search_is_refused(root: Path, target: str, said: str) -> None:
    with pytest.raises(RunError, match=said):
        run_report(target.format(root=root), str(root))


def test_one_changed_digit_leaves_no_report(root: Path) -> None:
    place = root / "searches" / "found" / "search.json"
    whole = sealed(json.loads(place.read_text()))
    place.write_bytes(whole)
    run_report("found", str(root))
    place.write_bytes(whole.replace(b'"slots": ', b'"slots": 1', 1))
    with pytest.raises(RunError, match=r"search\.json is damaged \(its own hash does not fit\); start"):
        run_report("found", str(root))


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 2}', "[" * 100_000, '{"schema": 1}'])
def test_a_damaged_record_leaves_no_report(root: Path, text: str) -> None:
    (root / "searches" / "found" / "search.json").write_text(text)
    with pytest.raises(RunError, match=r"search\.json"):
        run_report("found", str(root))
    assert not (root / "searches" / "found" / "report").exists()
