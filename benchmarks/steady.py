"""Memory, open files and threads of the driver and of each worker over many short epochs: they must not grow.

A training of ResNet-18 at 32 px on 96 digits, two workers, a checkpoint every other epoch, so that what is kept of an
epoch or of a checkpoint shows. The table has each process's private memory (USS: what would be free if it ended), open
files and threads at a tenth, at half and at the end of the epochs.

    python -m benchmarks.steady [--epochs 200] [--json FILE]
"""

import argparse
import json
import shutil
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.chaos.training import job_for, write_images
from ray_jobs.run.directory import RunDirectory
from ray_jobs.training.driver import run_train

_LOOK_S = 1.0


@dataclass(frozen=True)
class Look:
    """A process at one moment."""

    epoch: int
    process: str
    megabytes: float
    """Private memory, MiB."""
    files: int
    threads: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, look, print."""
    parser = argparse.ArgumentParser(description="memory, files and threads over many epochs")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--json", type=Path, default=None)
    args = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="rd-steady-"))
    looks: list[Look] = []
    try:
        write_images(folder / "images")
        job = job_for(folder, folder / "outputs", "steady", args.epochs)
        checkpoint = job.checkpoint.model_copy(update={"every_steps": None, "every_epochs": 2})
        done = threading.Event()
        run = RunDirectory.named(str(folder / "outputs"), "steady")
        watcher = threading.Thread(target=_watch, args=(run, looks, done))
        watcher.start()
        try:
            run_train(job.model_copy(update={"checkpoint": checkpoint}))
        finally:
            done.set()
            watcher.join()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table(looks, args.epochs))
    if args.json is not None:
        args.json.write_text(json.dumps([asdict(look) for look in looks], indent=1) + "\n")


def _watch(run: RunDirectory, looks: list[Look], done: threading.Event) -> None:
    while not done.wait(_LOOK_S):
        status = run.read_status()
        if status is None or status.epoch == 0:
            continue
        own = psutil.Process()
        workers = [each for each in own.children(recursive=True) if "RayTrainWorker" in _name(each)]
        named = {"driver": own} | {f"worker {n}": each for n, each in enumerate(sorted(workers, key=lambda p: p.pid))}
        for name, process in named.items():
            with suppress(psutil.Error):
                used = process.memory_full_info().uss / 2**20
                looks.append(Look(status.epoch, name, round(used, 1), process.num_fds(), process.num_threads()))


def _name(process: psutil.Process) -> str:
    with suppress(psutil.Error, IndexError):
        return process.cmdline()[0]
    return ""


def table(looks: Sequence[Look], epochs: int) -> str:
    """Markdown, a line for each process; memory is the median of the looks nearest to an epoch."""
    marks = _epochs(epochs)
    lines = ["| MiB, open files, threads |" + "".join(f" epoch {epoch} |" for epoch in marks)]
    lines.append("|---|" + "---|" * len(marks))
    for name in dict.fromkeys(look.process for look in looks):
        own = [look for look in looks if look.process == name]
        cells: list[str] = []
        for epoch in marks:
            near = sorted(own, key=lambda look, at=epoch: abs(look.epoch - at))[:5]
            middle = sorted(near, key=lambda look: look.megabytes)[len(near) // 2]
            cells.append(f" {middle.megabytes:.0f}, {middle.files}, {middle.threads} |")
        lines.append(f"| {name} |" + "".join(cells))
    return "\n".join(lines)


def _epochs(epochs: int) -> tuple[int, int, int]:
    return max(epochs // 10, 1), epochs // 2, epochs


if __name__ == "__main__":
    main()
