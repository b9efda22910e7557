"""What the whole of `resnet-dist train` costs over a bare loop with torch's DistributedDataParallel.

Both train the same network on the same views of the same images in the same global batches, with two workers on one
machine. The bare loop is only forward, backward and step; `resnet-dist train` adds Ray, the lease, metrics, BatchNorm
by microbatch, and a checkpoint every 60 seconds. A bare loop runs before and after each training, and a ratio is to
the mean of the two, so that a machine that becomes slower or faster favours neither.

    python benchmarks/overhead.py [--workers 2] [--epochs 5] [--repeats 3] [--json FILE]
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torchvision
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from data_pipeline.example_data import write_digits
from data_pipeline.sources.build import training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from ray_jobs.data.prepare import decoder, prepare_data
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check
from ray_jobs.run.directory import RunDirectory
from ray_jobs.training.driver import run_train

WARM_UP_STEPS = 5


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


def bare_worker(rank: int, job: JobConfig, result: str, port: int) -> None:
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
    seconds: list[float] = []
    with source:
        for epoch in range(job.training.epochs):
            start = time.perf_counter()
            for step in source.epoch(epoch):
                owned = len(range(rank, step.microbatch_count, workers))
                for position, microbatch in enumerate(step.microbatches):
                    with nullcontext() if position == owned - 1 else model.no_sync():
                        logits = model(microbatch.images)
                        loss = nn.functional.cross_entropy(logits, microbatch.labels, reduction="sum")
                        (loss * workers / step.samples).backward()
                optimizer.step()
                optimizer.zero_grad()
                seconds.append(time.perf_counter() - start)
                start = time.perf_counter()
    if rank == 0:
        Path(result).write_text(json.dumps(seconds))
    dist.destroy_process_group()


def steps_per_second_bare(job: JobConfig, scratch: Path) -> float:
    """Of the bare loop, after warm-up."""
    result = scratch / "bare.json"
    port = 20_000 + os.getpid() % 20_000
    mp.spawn(bare_worker, args=(job, str(result), port), nprocs=job.cluster.num_workers)
    return rate(json.loads(result.read_text()))


def steps_per_second_train(job: JobConfig) -> float:
    """Of `resnet-dist train`, after warm-up, from the records of its steps."""
    run_train(job)
    run = RunDirectory.named(job.storage.root, job.name or "")
    records = run.metrics()
    batch = job.training.global_batch_size
    speeds = [record["perf/images_per_second"] for record in records if "perf/images_per_second" in record]
    return rate([batch / speed for speed in speeds])


def rate(seconds: list[float]) -> float:
    """Steps per second over all steps but the first ones; the first two of an epoch may wait for data to flow."""
    measured = seconds[WARM_UP_STEPS:]
    return len(measured) / sum(measured)


def main() -> None:
    """Measure, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    bare: list[float] = []
    speeds: dict[str, list[float]] = {"overlapped": [], "exact": []}
    ratios: dict[str, list[float]] = {kind: [] for kind in speeds}
    with tempfile.TemporaryDirectory(prefix="rd-overhead-") as scratch:
        data, storage = Path(scratch) / "digits", Path(scratch) / "outputs"
        write_digits(data)
        job = partial(job_for, data, storage, args=args)
        bare_job = job("bare", "overlapped")
        bare.append(steps_per_second_bare(bare_job, Path(scratch)))
        for repeat in range(args.repeats):
            for kind, own in speeds.items():
                own.append(steps_per_second_train(job(f"{kind}-{repeat}", kind)))
                bare.append(steps_per_second_bare(bare_job, Path(scratch)))
                ratios[kind].append(own[-1] / statistics.mean(bare[-2:]))
                print(f"{kind}: {own[-1]:.3f} steps/s between {bare[-2]:.3f} and {bare[-1]:.3f} bare", flush=True)
    print(f"{'bare DDP':12} {statistics.median(bare):7.3f} steps/s")
    for kind, own in speeds.items():
        print(f"{kind:12} {statistics.median(own):7.3f} steps/s  {statistics.median(ratios[kind]):5.2f}x of bare DDP")
    if args.json:
        measured = {"bare DDP": bare, **speeds}
        result = {"settings": {**vars(args), "json": None}, "steps_per_second": measured, "ratios": ratios}
        args.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
