from pathlib import Path

import pytest
import torch

from ray_jobs.cli.app import main
from ray_jobs.doctor import machine as doctor
from ray_jobs.job.toml import check


def test_a_machine_that_runs_the_tests_has_no_error(tmp_path: Path):
    job = check({"storage": {"root": str(tmp_path)}, "model": {"arch": "resnet18", "weights": "none"}})
    checks = doctor.diagnose(job)
    assert [each for each in checks if each.status == "error"] == []
    assert len({each.name for each in checks}) == len(checks) > 8
    assert all(each.remedy for each in checks if each.status != "ok")
    assert list(tmp_path.iterdir()) == []


def test_any_error_is_exit_code_1_and_its_remedy_is_printed(capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "--storage.root", "/proc/outputs", "--model.weights", "none"]) == 1
    shown = capsys.readouterr()
    assert "error" in shown.out
    assert "choose another --storage.root" in shown.out
    assert shown.err == ""


def test_warnings_alone_are_exit_code_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "--storage.root", str(tmp_path), "--model.weights", "none"]) == 0
    capsys.readouterr()


def test_weights_are_looked_for_where_torch_hub_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    before = doctor.check_weights("resnet18", "imagenet")
    assert before.status == "warning"
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    assert folder.is_relative_to(tmp_path)
    assert f"put that file at {folder}" in before.remedy
    folder.mkdir(parents=True)
    (folder / "resnet18-f37072fd.pth").write_bytes(b"")
    assert doctor.check_weights("resnet18", "imagenet").status == "ok"


@pytest.mark.parametrize(
    ("weights", "status"),
    [("none", "ok"), ("some-run", "ok"), ("absent.safetensors", "error"), ("IMAGENET1K_V9", "error")],
)
def test_weights_by_their_kind(weights: str, status: str):
    found = doctor.check_weights("resnet18", weights)
    assert found.status == status
    assert (found.remedy != "") == (status == "error")


def test_weights_in_a_file_are_seen(tmp_path: Path):
    (tmp_path / "own.pth").write_bytes(b"")
    assert doctor.check_weights("resnet50", str(tmp_path / "own.pth")).status == "ok"
