"""A rank that runs out of memory halves everybody's microbatch, before the first step and later."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.storage.store import Store
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import print_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# Loaded by every Python process that finds it on its path: in Ray's workers, rank 1's forward pass fails as it would
# on a GPU whose memory is too small.
FAULT = """
import os, sys

if any("default_worker" in argument for argument in sys.argv):
    import torch
    from torch.nn.modules.module import register_module_forward_pre_hook

    passes = 0

    def fail(module, inputs):
        global passes
        if type(module).__name__ != "Suffix" or not torch.is_grad_enabled() or not torch.distributed.is_initialized():
            return
        passes += 1
        too_large = len(inputs[0]) > int(os.environ["FAULT_LARGEST"])
        late_enough = passes > int(os.environ["FAULT_AFTER"])
        if torch.distributed.get_rank() == 1 and too_large and late_enough:
            raise torch.OutOfMemoryError("CUDA out of memory. (injected)")

    register_module_forward_pre_hook(fail)
"""


def command(job: JobConfig, folder: Path, largest: int, after: int) -> tuple[int, str]:
    config = folder / "job.toml"
    config.write_text(print_config(job))
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(FAULT)
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"PYTHONPATH": str(site), "FAULT_LARGEST": str(largest), "FAULT_AFTER": str(after)}
    process = subprocess.run(
        [sys.executable, "-m", "ray_jobs", "train", "--config", str(config)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
    )
    return process.returncode, process.stdout


def progress_of(job: JobConfig) -> list[dict[str, Any]]:
    store = Store.open(job.storage.root).child(f"runs/{job.name}/checkpoints")
    return [json.loads(store.read(f"{name}/progress.json")) for name in store.list("")]


def test_a_microbatch_that_fits_on_one_rank_only_is_halved_on_both(
    make_job: Callable[..., JobConfig], tmp_path: Path
) -> None:
    job = make_job("early", 2, {"training": {"microbatch_size": 16}})
    code, text = command(job, tmp_path, largest=4, after=0)
    assert code == 0, text
    assert "out of memory: going on with microbatches of 4 instead of 16 from step 0 on" in text
    assert all(each["microbatches"] == {"size": 4, "since_step": 0} for each in progress_of(job))


def test_memory_that_runs_out_later_restarts_from_the_last_checkpoint_with_half(
    make_job: Callable[..., JobConfig], tmp_path: Path
) -> None:
    job = make_job("late", 2, {"training": {"microbatch_size": 8}, "checkpoint": {"every_steps": 1, "keep_last": 20}})
    # The probe, then a microbatch of 8 for each of the first steps.
    code, text = command(job, tmp_path, largest=4, after=4)
    assert code == 0, text
    assert "out of memory with microbatches of 8: starting again from the last checkpoint with 4" in text
    records = progress_of(job)
    since = records[-1]["microbatches"]["since_step"]
    assert 1 <= since < records[-1]["step"] == 6
    # The one that training went on from may have owed its validation, and then it was written again.
    assert all(each["microbatches"]["size"] == 8 for each in records if each["step"] < since)
    assert all(each["microbatches"]["size"] == 4 for each in records if each["step"] > since)
    assert records[0]["microbatches"]["size"] == 8
