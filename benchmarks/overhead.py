"""What the whole of `resnet-dist train` costs over a bare loop with torch's DistributedDataParallel, in CPU seconds.

Both train the same network on the same views of the same images in the same global batches, with two workers of one
thread on one machine. The bare loop is only forward, backward and step; `resnet-dist train` adds Ray, the lease,
metrics, BatchNorm by microbatch, and a checkpoint every 60 seconds.

Wall time on a shared machine varies by more than the overhead. So each training process sums its CPU seconds (user and
system, all threads) over the steps of each epoch, from step 5 on and without an epoch's first step, which waits for the
data to flow. A bare loop runs before and after each training, and a ratio is to the mean of the two. What Ray's own
processes (raylet, GCS, agents, controller) use meanwhile is given apart, as a share of one core.

    python -m benchmarks.overhead [--workers 2] [--epochs 3] [--repeats 7] [--json FILE]
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torchvision
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cluster.session.openmp import bound_spinning
from data_pipeline.example_data import write_digits
from data_pipeline.sources.build import training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from ray_jobs.data.prepare import decoder, prepare_data
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check
from ray_jobs.training import attempt
from ray_jobs.training.driver import run_train
from ray_jobs.training.worker_group import fit_worker_group

WARM_UP_STEPS = 5
FOLDER = "RD_OVERHEAD_FOLDER"
"""Environment variable: where training processes write what they have used."""
_SAMPLE_S = 0.25


class CpuClock:
    """CPU seconds of this process over the steps that count. `finish` writes them down."""

    def __init__(self) -> None:
        self._steps, self._seconds, self._epoch, self._last = 0, 0.0, -1, 0.0
        self._done = 0
        self._wall: list[float] = []

    def step_done(self, epoch: int) -> None:
        """After each step."""
        used = os.times()
        now = used.user + used.system
        if epoch == self._epoch and self._done >= WARM_UP_STEPS:
            self._steps += 1
            self._seconds += now - self._last
            self._wall.append(time.time())
        self._done, self._epoch, self._last = self._done + 1, epoch, now

    def finish(self) -> None:
        """Write steps, CPU seconds and when they were to a file of this process."""
        found = {"steps": self._steps, "seconds": self._seconds, "from": self._wall[0], "to": self._wall[-1]}
        Path(os.environ[FOLDER], f"{os.getpid()}.json").write_text(json.dumps(found))


def job_for(data: Path, storage: Path, name: str, reduction: str, args: argparse.Namespace) -> JobConfig:
    """The training that is measured."""
    return check(
        {
            "name": name,
            "data": {"root": str(data), "image_size": args.image_size, "decode_threads": 1},
            "augmentation": {"horizontal_flip": 0.0},
            "model": {"arch": args.arch, "weights": "none"},
            "training": {
                "epochs": args.epochs,
                "global_batch_size": 64,
                "microbatch_size": 16,
                "reduction": reduction,
                "log_every_steps": 1,
            },
            "checkpoint": {"every_minutes": 1.0, "every_epochs": 1000},
            "storage": {"root": str(storage)},
            "cluster": {"num_workers": args.workers, "cpus_per_worker": 1, "local_cpus": args.workers},
        }
    )


def bare_worker(rank: int, job: JobConfig, port: int) -> None:
    """The same training as a loop of a page."""
    torch.set_num_threads(1)
    workers = job.cluster.num_workers
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=workers)
    samples = prepare_data(job).split("train")
    model = torchvision.models.get_model(job.model.arch, weights=None, num_classes=len(samples.classes))
    model = DistributedDataParallel(model.to(memory_format=torch.channels_last))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, fused=True)
    spec, sizes = SourceSpec(job.data, decoder(job), job.augmentation, job.seed), job.training
    share = RankShare(rank, workers)
    source = training_source(spec, samples, sizes.global_batch_size, sizes.microbatch_size, share)
    clock = CpuClock()
    with source:
        for epoch in range(job.training.epochs):
            for step in source.epoch(epoch):
                owned = len(range(rank, step.microbatch_count, workers))
                for position, microbatch in enumerate(step.microbatches):
                    with nullcontext() if position == owned - 1 else model.no_sync():
                        logits = model(microbatch.images)
                        loss = nn.functional.cross_entropy(logits, microbatch.labels, reduction="sum")
                        (loss * workers / step.samples).backward()
                optimizer.step()
                optimizer.zero_grad()
                clock.step_done(epoch)
    clock.finish()
    dist.destroy_process_group()


def measured_worker(config: dict[str, Any]) -> None:
    """A worker of `resnet-dist train`, with a clock after each step that its recorder hears of."""
    from ray_jobs.training.recorder import RunRecorder  # noqa: PLC0415 - only workers load torch
    from ray_jobs.training.silent_recorder import SilentRecorder  # noqa: PLC0415
    from ray_jobs.training.worker import train  # noqa: PLC0415

    clock = CpuClock()
    for kind in (RunRecorder, SilentRecorder):
        original: Callable[..., None] = kind.step_done

        def timed(self: Any, state: Any, *rest: Any, original: Callable[..., None] = original) -> None:
            original(self, state, *rest)
            clock.step_done(state.epoch)

        kind.step_done = timed  # type: ignore[method-assign]
    train(config["task"])
    clock.finish()


def measured_fit(config: dict[str, Any], plan: Any, scratch: str) -> Exception | None:
    """What `ray_jobs.training.attempt` runs, with workers that are measured."""
    return fit_worker_group(measured_worker, config, plan, scratch, starts=0)


class ProcessWatch:
    """CPU seconds of this process's descendants, by name, as time goes by."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, dict[tuple[int, str], float]]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "ProcessWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            found: dict[tuple[int, str], float] = {}
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    times = child.cpu_times()
                    found[child.pid, child.name()] = times.user + times.system
            self._samples.append((time.time(), found))

    def cores(self, start: float, end: float, without: set[int]) -> dict[str, float]:
        """The share of a core that each kind of process used between two times, but for some processes."""
        within = [each for each in self._samples if start <= each[0] <= end]
        (first_time, first), (last_time, last) = within[0], within[-1]
        cores: dict[str, float] = defaultdict(float)
        for (pid, name), used in last.items():
            if pid not in without:
                cores[name] += (used - first.get((pid, name), 0.0)) / (last_time - first_time)
        return dict(cores)


def cpu_per_step(folder: Path) -> tuple[float, set[int], float, float]:
    """CPU seconds of a step summed over the workers, their process ids, and from when to when all were training."""
    found = {int(path.stem): json.loads(path.read_text()) for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    used = sum(each["seconds"] / each["steps"] for each in found.values())
    return used, set(found), max(each["from"] for each in found.values()), min(each["to"] for each in found.values())


def measure_bare(job: JobConfig, folder: Path) -> float:
    """CPU seconds of a step of the bare loop, all workers."""
    port = 20_000 + os.getpid() % 20_000
    mp.spawn(bare_worker, args=(job, port), nprocs=job.cluster.num_workers)
    return cpu_per_step(folder)[0]


def measure_train(job: JobConfig, folder: Path) -> tuple[float, dict[str, float]]:
    """CPU seconds of a step of `resnet-dist train`, all workers; and cores that Ray's other processes used."""
    with ProcessWatch() as watch:
        run_train(job)
    used, workers, start, end = cpu_per_step(folder)
    return used, watch.cores(start, end, workers)


def main() -> None:
    """Measure, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    bound_spinning()
    bare: list[float] = []
    used: dict[str, list[float]] = {"overlapped": [], "exact": []}
    ratios: dict[str, list[float]] = {kind: [] for kind in used}
    ray_cores: list[dict[str, float]] = []
    attempt._fit = measured_fit
    with tempfile.TemporaryDirectory(prefix="rd-overhead-") as scratch:
        data, storage, folder = (Path(scratch, name) for name in ("digits", "outputs", "cpu"))
        folder.mkdir()
        os.environ[FOLDER] = str(folder)
        write_digits(data)
        job = partial(job_for, data, storage, args=args)
        bare_job = job("bare", "overlapped")
        bare.append(measure_bare(bare_job, folder))
        for repeat in range(args.repeats):
            for kind, own in used.items():
                seconds, cores = measure_train(job(f"{kind}-{repeat}", kind), folder)
                own.append(seconds)
                ray_cores.append(cores)
                bare.append(measure_bare(bare_job, folder))
                ratios[kind].append(own[-1] / statistics.mean(bare[-2:]))
                ray = f"Ray {sum(cores.values()):.3f} cores"
                print(f"{kind}: {own[-1]:.3f} CPU s/step between {bare[-2]:.3f} and {bare[-1]:.3f} bare; {ray}")
    print(f"{'bare DDP':12} {statistics.median(bare):7.3f} CPU s/step ({min(bare):.3f} .. {max(bare):.3f})")
    for kind, own in used.items():
        each = ratios[kind]
        print(
            f"{kind:12} {statistics.median(own):7.3f} CPU s/step, {statistics.median(each):.3f} of bare DDP "
            f"({min(each):.3f} .. {max(each):.3f})"
        )
    sums = [sum(each.values()) for each in ray_cores]
    print(f"Ray's own processes {statistics.median(sums):.3f} cores ({min(sums):.3f} .. {max(sums):.3f})")
    for name in sorted({name for each in ray_cores for name in each}):
        print(f"  {name:24} {statistics.median(each.get(name, 0.0) for each in ray_cores):.4f}")
    if args.json:
        result = {
            "settings": {**vars(args), "json": None},
            "cpu_seconds_per_step": {"bare DDP": bare, **used},
            "ratios": ratios,
            "ray_cores": ray_cores,
        }
        args.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
