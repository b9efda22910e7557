"""The job of a student: the teacher's own, another network, and first weights that a start on another machine keeps."""

import shutil
from pathlib import Path

import pytest

from ray_jobs.compression.distill import distillation_job, first_weights
from ray_jobs.errors import ConfigError
from ray_jobs.run.directory import RunDirectory
from resnet_dist.compression.pruning.narrowing import narrowed
from resnet_dist.errors import RunError
from resnet_dist.model.architectures import Arch
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from resnet_dist.model.weights import hub_file
from tests.complaints import complains
from tests.untrained_run import untrained_run

LARGER = {"name": "student", "model": {"arch": "resnet34"}}


@pytest.fixture
def teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    """A ResNet-18, on a machine without torchvision's weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return RunDirectory.named(str(untrained_run(tmp_path, "whole", epochs=1)), "whole")


@pytest.mark.parametrize("changes", [{}, {"model": {"widths": "1.0"}}, {"model": {"arch": "resnet18"}}])
def test_the_teachers_own_network_is_no_student(teacher: RunDirectory, changes: dict[str, dict[str, str]]):
    with pytest.raises(ConfigError) as caught:
        distillation_job(teacher, changes)
    assert complains(caught, "--model.widths", remedy="name")


def test_a_narrower_student_starts_from_the_teacher_and_a_larger_one_from_what_is_there(teacher: RunDirectory):
    assert distillation_job(teacher, {"model": {"widths": "0.5"}}).model.weights == "whole"
    assert distillation_job(teacher, LARGER).model.weights == "none"
    file = hub_file("resnet34")[0]
    file.parent.mkdir(parents=True)
    file.touch()
    assert distillation_job(teacher, LARGER).model.weights == "imagenet"


def test_a_student_keeps_its_first_weights_on_a_machine_that_has_others(teacher: RunDirectory):
    shutil.copytree(teacher.uri, Path(teacher.uri).with_name("student"))  # begun from none
    file = hub_file("resnet34")[0]
    file.parent.mkdir(parents=True)
    file.touch()
    assert distillation_job(teacher, LARGER).model.weights == "none"
    assert distillation_job(teacher, {**LARGER, "name": "other"}).model.weights == "imagenet"


FEW: tuple[Arch, ...] = ("resnet18", "resnet34", "resnet50", "resnext50_32x4d")


@pytest.mark.parametrize(
    ("teacher", "gates"),
    [
        (Structure("resnet34"), False),
        (Structure("resnet34"), True),
        (Structure("resnet18", squeeze_excite=True), False),
        (Structure("resnext101_32x8d"), False),
    ],
)
def test_a_student_starts_from_its_teacher_wherever_that_can_be_narrowed(
    teacher: Structure, gates: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = build_model(teacher, 2, 0.0, 0).state_dict()
    for arch in FEW:
        student = Structure(arch, squeeze_excite=gates)
        try:
            narrowed(weights, teacher, student)
        except RunError:
            wanted = "none"
        else:
            wanted = "teacher"
        assert first_weights(student, teacher, "teacher") == wanted, arch
