"""The list of components is valid CycloneDX, the same each time, and says what each package declares."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from resnet_dist.export.sbom import components, installed, normalised


@pytest.fixture(scope="module")
def listed() -> dict[str, dict[str, object]]:
    return {each["purl"]: each for each in json.loads(components())["components"]}


def test_it_is_valid() -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(components().decode()) is None


@pytest.mark.parametrize(
    "first",
    [
        "",
        pytest.param("import setuptools; ", marks=pytest.mark.slow),
        pytest.param("import ray; ", marks=pytest.mark.slow),
    ],
)  # both put packages on the path
def test_another_process_writes_the_same_bytes(first: str) -> None:
    script = f"{first}import sys; from resnet_dist.export.sbom import components; sys.stdout.buffer.write(components())"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout == components()


def test_every_package_is_in_it_once(listed: dict[str, dict[str, object]]) -> None:
    expected = {normalised(each.name) for each in installed()}
    names = [normalised(str(each["name"])) for each in listed.values()]
    assert sorted(names) == sorted(expected)
    assert f"pkg:pypi/torch@{version('torch')}" in {purl.replace("%2B", "+") for purl in listed}


def test_licences_are_those_declared(listed: dict[str, dict[str, object]]) -> None:
    (numpy,) = (each for each in listed.values() if each["name"] == "numpy")
    (pydantic,) = (each for each in listed.values() if each["name"] == "pydantic")
    assert "BSD-3-Clause" in json.dumps(numpy["licenses"])
    declared = {"acknowledgement": "declared", "id": "MIT"}
    (pyyaml,) = (each for each in listed.values() if each["name"] == "PyYAML")  # has a classifier only
    assert pyyaml["licenses"] == [{"license": declared}]
    assert pydantic["licenses"] == [{"license": {"acknowledgement": "declared", "id": "MIT"}}]
    assert all("\n" not in json.dumps(each.get("licenses", [])).replace("\\n", "\n") for each in listed.values())


def test_what_a_removal_left_behind_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "gone-1.0.dist-info").mkdir()
    script = "import sys; from resnet_dist.export.sbom import components; sys.stdout.buffer.write(components())"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, env=environment)
    assert done.stdout == components()


def test_it_says_who_needs_whom() -> None:
    needs = {each["ref"]: each.get("dependsOn", []) for each in json.loads(components())["dependencies"]}
    assert f"numpy=={version('numpy')}" in needs[f"pandas=={version('pandas')}"]
