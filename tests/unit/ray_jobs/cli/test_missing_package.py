from importlib.metadata import metadata

import pytest

from ray_jobs.cli.app import app
from ray_jobs.cli.missing_package import EXTRAS, missing_package
from resnet_dist.runtime.errors import RuntimeMissingError


def test_every_command_has_an_extra_that_there_is():
    assert set(EXTRAS) == {name for name in app if not name.startswith("-")} - {"completion"}
    assert set(EXTRAS.values()) <= set(metadata("resnet-dist").get_all("Provides-Extra") or ())


@pytest.mark.parametrize(
    ("tokens", "module", "remedy"),
    [
        (["train", "--data.root", "x"], "ray.train", "train needs the package ray, which is not installed; pip install "
         "'resnet-dist[train]'"),
        (["--debug", "jobs", "list"], "psutil", "resnet-dist[cluster]"),
        (["train", "--cluster.address", "http://head:8265"], "kubernetes", "resnet-dist[cluster]"),
        (["predict", "b", "x", "--workers", "2"], "ray", "[cluster]', or leave out --workers and --cluster.address"),
    ],
)  # fmt: skip
def test_the_extra_is_that_of_the_command_or_of_the_package(tokens: list[str], module: str, remedy: str):
    found = missing_package(ModuleNotFoundError(f"No module named {module!r}", name=module), tokens)
    assert isinstance(found, RuntimeMissingError)
    assert remedy in str(found)


@pytest.mark.parametrize("name", ["ray_jobs.absent", "cluster", "_lzma", None])
def test_a_defect_is_no_missing_package(name: str | None):
    error = ModuleNotFoundError("No module", name=name)
    assert missing_package(error, ["train"]) is error
