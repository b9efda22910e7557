import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.health.comparison import compare_images, compare_packages, compare_sources, compare_with_driver
from cluster.health.preflight import Status
from cluster.health.survey import Survey, survey

USUAL = Survey("host", "resnet-dist:1", "3.11.9", {"torch": "2.14.1+cu130", "ruff": "1"}, {"ray_jobs/cli/app.py": "aa"})

OWN = ("cluster", "ray_jobs")


def of(survey_: Survey, **packages: str) -> Survey:
    return replace(survey_, packages={**survey_.packages, **packages})


def statuses(found: list[tuple[str, object]]) -> dict[str, str]:
    return {name: check.status for name, check in found}  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("odd", "status", "text"),
    [
        (of(USUAL, torch="2.13.0+cu130"), "error", "torch 2.13.0+cu130 (not 2.14.1+cu130)"),
        (of(USUAL, torch="2.14.1+cpu"), "warning", "torch 2.14.1+cpu"),
        (of(USUAL, extra="3"), "warning", "extra 3 (not there)"),
        (replace(USUAL, packages={"ruff": "1"}), "error", "torch absent"),
        (replace(USUAL, packages={"torch": "2.14.1+cu130"}), "warning", "ruff absent"),
        (replace(USUAL, python="3.12.0"), "error", "python 3.12.0"),
        (of(USUAL, torch="2.13", extra="3"), "error", "unlike head: torch 2.13"),
    ],
)
def test_the_node_whose_packages_are_others_is_named(odd: Survey, status: str, text: str) -> None:
    found = compare_packages({"head": USUAL, "odd": odd, "third": USUAL})
    assert statuses(found) == {"head": "ok", "odd": status, "third": "ok"}
    assert text in found[1].check.found
    # The majority decides, not the first node.
    found = compare_packages({"odd": odd, "head": USUAL, "third": USUAL})
    assert statuses(found) == {"head": "ok", "odd": status, "third": "ok"}


def test_the_node_whose_code_is_another_is_named_with_files() -> None:
    odd = replace(USUAL, sources={"ray_jobs/cli/app.py": "bb", "ray_jobs/new.py": "cc"})
    bare = replace(USUAL, sources={})
    found = compare_sources({"bare": bare, "bare too": bare, "head": USUAL, "second": USUAL, "odd": odd})
    assert statuses(found) == {"bare": "error", "bare too": "error", "head": "ok", "second": "ok", "odd": "error"}
    assert found[0].check.found == "resnet-dist is not installed there"
    assert found[4].check.found == "unlike head: ray_jobs/cli/app.py, ray_jobs/new.py"
    assert statuses(compare_sources({"bare": bare})) == {"bare": "error"}


def test_images_that_differ_are_a_warning_and_none_named_is_fine() -> None:
    unnamed = replace(USUAL, image="")
    assert statuses(compare_images({"a": unnamed, "b": unnamed})) == {"a": "ok", "b": "ok"}
    assert statuses(compare_images({"a": USUAL, "b": USUAL, "c": unnamed})) == {"a": "ok", "b": "ok", "c": "warning"}


@pytest.mark.parametrize("status", ["warning", "error"])
def test_this_machine_needs_the_same_code_and_required_packages_only(status: Status) -> None:
    same, code = compare_with_driver(of(USUAL, extra="3"), USUAL, status)
    assert (same.status, code.status) == ("ok", "ok")
    same, code = compare_with_driver(replace(of(USUAL, torch="1"), sources={}), USUAL, status)
    assert (same.status, code.status) == (status, status)
    assert "torch 1" in same.found


def test_a_survey_sees_what_an_import_would_find(tmp_path: Path) -> None:
    here = Survey(**survey(OWN))
    assert here.packages["torch"]
    assert {"ray_jobs/cli/app.py", "cluster/health/survey.py", "ray_jobs/search/default.toml"} <= set(here.sources)
    assert not [path for path in here.sources if "__pycache__" in path]
    info = tmp_path / "Scikit_Learn-1.99.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Scikit_Learn\nVersion: 1.99.0\n")
    code = "from cluster.health.survey import survey; print(survey([])['packages']['scikit-learn'])"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, cwd=Path.cwd()
    )
    assert done.stdout == "1.99.0\n", done.stderr
