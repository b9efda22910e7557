"""Files that the documents name exist, and the rooms say which file to open first."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("cluster", "data_pipeline", "ray_jobs", "resnet_dist")
_FILE = re.compile(rf"`((?:{'|'.join((*PACKAGES, 'k8s', 'tests', 'docs', 'benchmarks', 'examples'))})/[\w./-]+\.\w+)`")


def _named_files(document: str) -> list[str]:
    return _FILE.findall((ROOT / document).read_text())


@pytest.mark.parametrize(
    "document", ["docs/architecture.md", "README.md", "CONTRIBUTING.md", "docs/training.md", "docs/runs.md"]
)
def test_files_that_a_document_names_exist(document: str):
    missing = [name for name in _named_files(document) if not (ROOT / name).is_file()]
    assert missing == []


def test_each_of_the_six_trips_is_a_list_of_files_in_order():
    text = (ROOT / "docs" / "architecture.md").read_text()
    trips = text.split("\n## ")[1:]
    assert len(trips) == 6
    for trip in trips:
        numbers = [int(found) for found in re.findall(r"^(\d+)\. `", trip, re.MULTILINE)]
        assert len(numbers) >= 10
        assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    "room",
    sorted({path.parent for package in PACKAGES for path in (ROOT / package).glob("**/__init__.py")}),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_room_says_what_it_is_for_and_which_file_to_open_first(room: Path):
    if room.name in PACKAGES:
        return
    text = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
    assert len(text.split()) >= 8
    if room.name != "search_figures":
        assert re.search(r"[Oo]pen\s+`", text)
    for name in re.findall(r"`([\w/]+\.py)`", text):
        assert (room / name).is_file()
