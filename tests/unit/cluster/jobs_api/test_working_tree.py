"""Which files of a checkout go to a running Ray, and which name their content has."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import SubmissionError
from cluster.jobs_api.working_tree import WorkingTree


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for package in ("cluster", "data_pipeline", "ray_jobs", "resnet_dist"):
        (tmp_path / package / "below").mkdir(parents=True)
        (tmp_path / package / "below" / "code.py").write_text(package)
    (tmp_path / "pyproject.toml").write_text("[project]")
    return tmp_path


CODE = {f"{package}/below/code.py" for package in ("cluster", "data_pipeline", "ray_jobs", "resnet_dist")}


def test_only_code_is_sent(checkout: Path) -> None:
    for name in (".git/config", ".venv/x", "data/a.png", "outputs/b", "ray_jobs/__pycache__/c.pyc", "ray_jobs/.env"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("secret")
    assert WorkingTree.read(checkout).files.keys() == CODE | {"pyproject.toml"}


def test_the_copy_is_the_code(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    tree, copy = WorkingTree.read(checkout), tmp_path_factory.mktemp("copy")
    tree.write(copy)
    assert WorkingTree.read(copy) == tree
    assert WorkingTree.read(copy).digest == tree.digest


def test_any_change_of_the_code_is_another_digest(checkout: Path) -> None:
    seen = {WorkingTree.read(checkout).digest}
    (checkout / "ray_jobs/below/code.py").write_text("other")
    seen.add(WorkingTree.read(checkout).digest)
    (checkout / "ray_jobs/below/code.py").rename(checkout / "ray_jobs/below/moved.py")
    seen.add(WorkingTree.read(checkout).digest)
    assert len(seen) == 3


FILES = st.dictionaries(st.text("ab/", min_size=1, max_size=4), st.binary(max_size=4), max_size=4)


@given(FILES, FILES)
def test_a_digest_names_paths_and_contents(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    assert (WorkingTree(one).digest == WorkingTree(other).digest) == (one == other)


def test_a_folder_that_is_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match=r"no checkout of resnet-dist.*cluster, data_pipeline"):
        WorkingTree.read(tmp_path)


def test_a_link_is_refused(checkout: Path) -> None:
    (checkout / "ray_jobs" / "passwords").symlink_to("/etc/passwd")
    with pytest.raises(SubmissionError, match="passwords is a link"):
        WorkingTree.read(checkout)


def test_a_pipe_is_refused_and_not_waited_for(checkout: Path) -> None:
    os.mkfifo(checkout / "cluster" / "pipe")
    with pytest.raises(SubmissionError, match="pipe is no file"):
        WorkingTree.read(checkout)


def test_what_is_too_large_is_refused_and_the_largest_named(checkout: Path) -> None:
    with (checkout / "resnet_dist" / "weights.bin").open("wb") as file:
        file.truncate(40 * 1024**2)
    with pytest.raises(SubmissionError, match=r"the largest: resnet_dist/weights.bin \(40.0 MiB\)"):
        WorkingTree.read(checkout)


def test_too_many_files_are_refused_and_the_fullest_folder_named(checkout: Path) -> None:
    images = checkout / "cluster" / "images"
    images.mkdir()
    for number in range(5001):
        (images / str(number)).touch()
    with pytest.raises(SubmissionError, match=r"the fullest folder: cluster/images \(5001\)"):
        WorkingTree.read(checkout)
