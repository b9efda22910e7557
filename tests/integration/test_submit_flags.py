"""Flags of `submit` that say where on Kubernetes a job goes are refused for a Ray, before it is asked anything."""

from pathlib import Path

import pytest

from ray_jobs.cli.app import main

NOBODY = "http://127.0.0.1:9"
"""Where no Ray answers: a command that asked one would end with 1."""


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("compress",), "distill, prune, quantize, chain"),
        (("compress", "prune"), "the run"),
        (("compress", "show", "tiles"), "distill, prune, quantize, chain"),
        (("compress", "prune", "tiles"), "--target"),
        (("compress", "chain", "tiles"), "--recipe"),
        (("compress", "distill", "tiles", "--target", "macs=0.5"), "--target does not apply to compress distill"),
        (
            ("compress", "prune", "tiles", "--target", "macs=0.5", "--always"),
            "--always does not apply",
        ),
        (("evaluate", "tiles", "other"), "other"),
        (("train", "--recipe", "half-latency"), "--recipe"),
    ],
)
def test_a_command_with_words_that_are_not_its_own_is_refused(
    folder: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], part: str
) -> None:
    assert main(["submit", *words, "--storage.root", str(folder / "out"), "--cluster.address", NOBODY]) == 2
    assert part in capfd.readouterr()[1]


@pytest.mark.parametrize(("words", "flag"), [(("--team", "vision"), "--team"), (("--dry-run",), "--dry-run")])
def test_flags_of_the_other_kind_are_refused(
    folder: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], flag: str
) -> None:
    place = ("--data.root", str(folder / "data"), "--storage.root", str(folder / "out"), "--name", "a")
    assert main(["submit", "train", *place, "--cluster.address", NOBODY, *words]) == 2
    _, error = capfd.readouterr()
    assert error.startswith("error: ")
    assert flag in error
    assert not (folder / "out").exists()
