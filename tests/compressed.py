"""What tests of compression share: a storage root with a trained run, and commands that are killed."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.learnt import learnt_by
from ray_jobs.job.toml_codec import merged
from ray_jobs.run.directory import RunDirectory

Tree = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """A storage root that holds the trained run "whole"."""

    root: Path

    def changes(self, name: str, workers: int = 1, **sections: Tree) -> Tree:
        """Of the job of a phase."""
        where = {
            "name": name,
            "storage": {"root": str(self.root)},
            "training": {"epochs": 1},
            "cluster": {"num_workers": workers, "cpus_per_worker": 1, "local_cpus": 4},
        }
        return merged(where, sections)

    def run(self, name: str) -> RunDirectory:
        return RunDirectory.named(str(self.root), name)

    def learnt(self, name: str) -> dict[str, torch.Tensor]:
        return learnt_by(self.run(name))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def kill_when(process: "subprocess.Popen[bytes]", there: Callable[[], bool]) -> None:
    """SIGKILL the driver as soon as `there` is true."""
    deadline = time.monotonic() + 240
    while not there():
        assert process.poll() is None, process.communicate()[0].decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
