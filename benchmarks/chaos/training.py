"""Trainings that faults strike, and the undisturbed one that they are compared with."""

import hashlib
import random
import shutil
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.chaos.command import Command, StuckError, newest_attempt, newest_step, step_by_status
from benchmarks.chaos.faults import Fault, Target
from benchmarks.chaos.strike import Course, Struck
from benchmarks.learnt import learnt_by
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check, print_config
from ray_jobs.run.directory import RunDirectory
from ray_jobs.training.driver import run_train

STEPS_PER_EPOCH = 6
_ENDLESS = 100_000
"""Epochs: a run goes on for as long as faults strike it."""


def write_images(folder: Path) -> None:
    """120 digits of three classes, 32 px: 96 to train on, 24 to validate with."""
    digits = cast("Any", load_digits())
    for label in range(3):
        images = digits.images[digits.target == label][:40]
        for number, pixels in enumerate(images):
            path = folder / ("val" if number < 8 else "train") / str(label) / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pixels * 15.9).astype("uint8")).resize((32, 32)).save(path)


def job_for(folder: Path, storage: Path, name: str, epochs: int = _ENDLESS) -> JobConfig:
    """The training; its identity does not depend on the epochs or where it is stored."""
    return check(
        {
            "name": name,
            "seed": 7,
            "data": {"root": str(folder / "images"), "image_size": 32},
            "model": {"arch": "resnet18", "weights": "none", "dropout": 0.2},
            "training": {"epochs": epochs, "global_batch_size": 16, "microbatch_size": 8, "log_every_steps": 1},
            "schedule": {"kind": "constant", "epochs": 1, "warmup_epochs": 0.0},
            "checkpoint": {"every_steps": 5, "keep_last": 2},
            "storage": {"root": str(storage)},
            "cluster": {"num_workers": 2, "cpus_per_worker": 1, "local_cpus": 4, "lease_ttl_s": 5.0},
        }
    )


@dataclass
class TrainingRounds:
    """Disturbed runs, one after the other; `compare` trains their undisturbed twin."""

    folder: Path
    disk: Path | None
    draw: random.Random
    _ends: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    """Epochs and digest of what each round's run has learnt; -1 where it did not come so far."""

    def __post_init__(self) -> None:
        write_images(self.folder / "images")

    def disturb(self, faults: Sequence[Fault]) -> list[Struck]:
        """A run that lives through these faults, one after the other."""
        number = len(self._ends)
        storage = (self.disk or self.folder) / f"round-{number}"
        storage.mkdir()
        job = job_for(self.folder, storage, "disturbed")
        run = RunDirectory.named(str(storage), "disturbed")
        command = self._command(job, number)
        target = Target(command, storage / "runs/disturbed", self.disk, self.draw)
        course = Course(_name(number), partial(newest_step, run), partial(step_by_status, run), spread=5)
        struck: list[Struck] = []
        command.start()
        try:
            for fault in faults:
                struck.append(self._strike(course, fault, target))
                print(f"  {struck[-1]}", flush=True)
                if struck[-1].problem:
                    print(command.log.read_text()[-2000:], flush=True)
                    break
            self._ends.append(self._end(command, run, job, number, struck))
        finally:
            command.stop()
            shutil.rmtree(storage, ignore_errors=True)
        return struck

    def compare(self, struck: list[Struck]) -> None:
        """Train the undisturbed twin from end to end of the rounds; note where their weights differ."""
        storage = self.folder / "undisturbed"
        for epochs, number in sorted((epochs, number) for number, (epochs, _) in enumerate(self._ends) if epochs > 0):
            job = job_for(self.folder, storage, "undisturbed", epochs)
            run_train(job)
            is_same = digest_of(RunDirectory.named(str(storage), "undisturbed")) == self._ends[number][1]
            print(f"round {number}: {epochs} epochs, weights {'equal' if is_same else 'DIFFER'}", flush=True)
            for each in struck:
                if each.round == _name(number):
                    each.compared = True
                    each.problem = each.problem or ("" if is_same else "the run has learnt other weights")

    def _strike(self, course: Course, fault: Fault, target: Target) -> Struck:
        before, _ = newest_attempt(target.run)
        struck = course.strike(fault, target)
        after, began = newest_attempt(target.run)
        if not struck.problem:
            struck.repeated = 0 if after == before else max(struck.step - began, 0)
        return struck

    def _command(self, job: JobConfig, number: int) -> Command:
        config = self.folder / f"round-{number}.toml"
        config.write_text(print_config(job))
        return Command(["train", "--config", str(config)], self.folder / f"round-{number}.log")

    def _end(
        self, command: Command, run: RunDirectory, job: JobConfig, number: int, struck: list[Struck]
    ) -> tuple[int, str]:
        """Stop the run, continue it to the end of the epoch that it is in, and read what it has learnt."""
        try:
            if command.exit_code is None:
                command.signal(signal.SIGINT)
                command.wait_for_end()
            epochs = newest_step(run) // STEPS_PER_EPOCH + 1
            last = job.model_copy(update={"training": job.training.model_copy(update={"epochs": epochs})})
            command = self._command(last, number)
            command.start()
            code = command.wait_for_end()
            problem = "" if code == 0 else f"it ended with {code} when continued"
            problem = problem or _missing_metrics(run, epochs)
        except StuckError as error:
            epochs, problem = -1, str(error)
        for each in struck:
            each.problem = each.problem or problem
        return (-1, "") if problem else (epochs, digest_of(run))


def _name(number: int) -> str:
    return f"training {number}"


def _missing_metrics(run: RunDirectory, epochs: int) -> str:
    """What is wrong with the metrics of a run that is done; empty when each epoch and each step is there once."""
    records = run.metrics()
    validated = Counter(int(record["step"]) for record in records if "val/loss" in record)
    trained = Counter(int(record["step"]) for record in records if "train/loss" in record)
    due = [STEPS_PER_EPOCH * epoch for epoch in range(1, epochs + 1)]
    for name, found, expected in (
        ("epochs", validated, due),
        ("steps", trained, range(1, STEPS_PER_EPOCH * epochs + 1)),
    ):
        wrong = [step for step in {*found, *expected} if found[step] != 1]
        if wrong:
            return f"metrics of {name} at steps {sorted(wrong)[:5]} are there {found[min(wrong)]} times"
    return ""


def digest_of(run: RunDirectory) -> str:
    """Of all that a run has learnt: judged and raw weights, BatchNorm, the optimizer's state."""
    digest = hashlib.sha256()
    for name, value in sorted(learnt_by(run).items()):
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()
