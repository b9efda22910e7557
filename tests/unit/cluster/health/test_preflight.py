from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from cluster.health import preflight

GIB = 1024**3


def test_this_environment_has_what_the_distribution_requires():
    (check,) = preflight.check_packages()
    assert (check.name, check.status) == ("packages", "ok")
    assert preflight.check_python().status == "ok"
    assert preflight.check_ray().found == version("ray")


def test_an_absent_package_and_a_wrong_version_are_errors_with_a_remedy(monkeypatch: pytest.MonkeyPatch):
    wanted = ["pydantic>=2", "pydantic<1", "no-such-package>=3; extra == 'train'", "not-asked-for; extra == 'other'"]
    monkeypatch.setattr(preflight, "requires", lambda _: wanted)
    wrong, absent = preflight.check_packages()
    assert (wrong.name, wrong.status) == ("pydantic", "error")
    assert version("pydantic") in wrong.found
    assert "pydantic<1" in wrong.remedy
    assert (absent.name, absent.status) == ("packages", "error")
    assert absent.found == "1 absent: no-such-package>=3"
    assert absent.remedy == "pip install 'resnet-dist[train]'"
    assert str(Requirement(wanted[1]).specifier) in wrong.found


@pytest.mark.parametrize(("cores", "status"), [(1, "warning"), (2, "ok"), (64, "ok")])
def test_one_core_is_few(cores: int, status: str):
    assert preflight.check_cpus(cores).status == status


@pytest.mark.parametrize(
    ("environment", "status", "found"),
    [
        ({}, "ok", "GOMP_SPINCOUNT=10000, KMP_BLOCKTIME=1"),
        ({"GOMP_SPINCOUNT": "5"}, "ok", "GOMP_SPINCOUNT=5, KMP_BLOCKTIME=1"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "ok", "OMP_WAIT_POLICY=PASSIVE"),
        ({"OMP_WAIT_POLICY": "active"}, "warning", "OMP_WAIT_POLICY=active"),
        ({"GOMP_SPINCOUNT": "INFINITY"}, "warning", "GOMP_SPINCOUNT=INFINITY, KMP_BLOCKTIME=1"),
    ],
)
def test_threads_that_spin_as_long_as_they_wait_are_warned_of(environment: dict[str, str], status: str, found: str):
    check = preflight.check_waiting_threads(environment)
    assert (check.status, check.found) == (status, found)
    assert ("unset" in check.remedy) == (status == "warning")


@pytest.mark.parametrize(("free", "status"), [(0.5, "error"), (5, "warning"), (50, "ok")])
def test_little_disk_warns_and_none_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, status: str):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free * GIB})())
    check = preflight.check_disk(str(tmp_path / "not" / "yet"))
    assert check.status == status
    assert str(tmp_path) in check.found
    assert (check.remedy == "") == (status == "ok")


def test_a_writable_root_is_left_as_it_was(tmp_path: Path):
    root = tmp_path / "outputs"
    check = preflight.check_storage(str(root))
    assert check.status == "ok"
    assert "can be created" in check.found
    root.mkdir()
    assert preflight.check_storage(str(root)).status == "ok"
    assert preflight.check_storage(root.as_uri()).status == "ok"
    assert list(tmp_path.rglob("*")) == [root]


@pytest.mark.parametrize("root", ["/proc/outputs", "no-such-scheme://bucket/x"])
def test_a_root_that_cannot_be_written_is_an_error_with_a_remedy(root: str):
    check = preflight.check_storage(root)
    assert check.status == "error"
    assert "--storage.root" in check.remedy


def test_gpus_that_only_the_driver_sees_are_an_error():
    if torch.cuda.is_available():
        pytest.skip("torch sees GPUs here")
    assert preflight.check_gpus(0, wanted=None).status == "ok"
    assert preflight.check_gpus(0, wanted=True).status == "error"
    assert preflight.check_gpus(2, wanted=None).status == "error"
    assert preflight.check_nccl(0).status == "ok"


@pytest.mark.parametrize(("free", "status"), [(64 / 1024, "warning"), (16, "ok")])
def test_the_shared_memory_that_docker_gives_is_little(monkeypatch: pytest.MonkeyPatch, free: float, status: str):
    usage = type("Usage", (), {"free": free * GIB, "total": free * GIB})
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: usage())
    check = preflight.check_shared_memory()
    assert check.status == status
    assert ("emptyDir" in check.remedy) == (status == "warning")


def test_gpus_that_ray_does_not_give_away_are_told():
    assert preflight.check_gpus_in_ray(2, 2) == []
    assert [check.status for check in preflight.check_gpus_in_ray(1, 2)] == ["warning"]
    assert [check.status for check in preflight.check_gpus_in_ray(2, 1)] == ["error"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu\nGCC version: gcc 13.2.0\n",
            "570.86.15",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n", "580.95.05"),
    ],
)
def test_the_drivers_version_is_read_from_the_kernel(tmp_path: Path, text: str, found: str):
    (tmp_path / "version").write_text(text)
    assert preflight.check_driver(1, tmp_path / "version").found.startswith(f"{found}; torch")
    assert preflight.check_driver(1, tmp_path / "absent").status == "warning"
    assert preflight.check_driver(0, tmp_path / "absent").status == "ok"
