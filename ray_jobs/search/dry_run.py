"""`resnet-dist tune --dry-run`: what a search would do, estimated from a few microbatches computed here."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, log
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import torch

from data_pipeline.sources.build import training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from ray_jobs.data.prepare import decoder
from ray_jobs.job.config import JobConfig, run_name
from ray_jobs.search.config import SearchConfig
from ray_jobs.search.early_checks import kept_trials
from ray_jobs.search.optuna_study import Draws, StudySearch
from ray_jobs.search.parameter import Params
from ray_jobs.search.prepare import SearchStart, prepare_search
from ray_jobs.search.records import SearchDirectory
from ray_jobs.search.space import Space, job_with
from ray_jobs.search.trainable import params_of
from ray_jobs.training.feature_sharing import default_folder, room_for
from resnet_dist.checkpoint.size import checkpoint_bytes
from resnet_dist.features.entry import pack, unpack
from resnet_dist.model.pointwise import use_onednn
from resnet_dist.model.resnet import build_model
from resnet_dist.model.trunk import split
from resnet_dist.torch_threads import torch_threads
from resnet_dist.training.setup import policies_at

_SHOWN = 5
_DRAWN = 40
_MEASURED = 3
"""Microbatches that are timed, after one that is not."""


_RAY_STARTS_S = 5.0
"""Until an embedded Ray can start workers, on two cores."""
_LEAST_LOAD_S = 5.0
"""Until a worker has imported torch and DALI, on a fast machine with warm caches."""


@dataclass(frozen=True)
class TrunkCost:
    """One microbatch at a freeze depth, in seconds and bytes."""

    images_s: float
    trunk_s: float
    teacher_s: float
    """0 without a teacher, whose answers are stored beside features."""
    suffix_s: float
    read_s: float
    """Reading features from memory that the system has cached."""
    entry_bytes: int

    @property
    def gain(self) -> float:
        """How many times as fast a trial is whose features are there already."""
        return self.whole_s / (self.read_s + self.suffix_s)

    @property
    def whole_s(self) -> float:
        """Of a trial that no features wait for."""
        return self.images_s + self.trunk_s + self.teacher_s + self.suffix_s


@dataclass(frozen=True)
class SearchPlan:
    """What a search would do."""

    start: SearchStart
    suggestions: tuple[Params, ...]
    """The first ones; later ones depend on results."""
    epochs: int
    """Expected over all trials."""
    full_epochs: int
    """Were none ended early."""
    hours: float
    """Of all trials, with `startup_s`."""
    startup_s: float
    """Until the worker groups have started, which they do once."""
    checkpoint_bytes: int
    """Of a trial that keeps its last and its best."""
    kept: int
    """Trials that keep their checkpoints at the end."""
    costs: Mapping[int, TrunkCost]
    """By number of frozen stages."""
    shares: Mapping[int, float]
    """Share of suggestions by number of stages frozen at the start."""
    feature_bytes: int
    """Of all features that these would store, each once."""
    room_bytes: int
    """What shared features may have."""


def plan_search(job: JobConfig, config: SearchConfig, space: Space, loaded_s: float = 0.0) -> SearchPlan:
    """Check the search as its start would, and estimate. Stores nothing. Raises as `run_tune` does.

    `loaded_s`: what the imports of this process took, which are those of a worker; 0 where they were there before.
    """
    directory = SearchDirectory.named(job.storage.root, run_name(job))
    start = prepare_search(job, config, space, directory)
    base = start.facts.job
    with TemporaryDirectory(prefix="rd-plan-") as scratch:
        default = [space.default(base)]
        study = StudySearch(config, space, Draws(base.seed, len(default)), Path(scratch) / "journal", [], default)
        drawn = [params_of(study.suggest(str(number))) for number in range(_DRAWN)]
    jobs = [job_with(base, params) for params in drawn]
    depths = [policies_at(each.freezing, 0).count("frozen") for each in jobs]
    kept = torch.float32 if config.reuse_dtype == "fp32" else torch.bfloat16
    with torch_threads(base.cluster.cpus_per_worker or 1):
        costs = {depth: _cost(base, start, depth, kept) for depth in sorted(set(depths))}
    shares = {depth: depths.count(depth) / len(depths) for depth in costs}
    batches, microbatches = _batches(base, start)
    epochs = _expected_epochs(config, base.training.epochs)
    seconds = sum(shares[depth] * microbatches * cost.whole_s for depth, cost in costs.items())
    startup_s = _RAY_STARTS_S + max(loaded_s, _LEAST_LOAD_S)
    room = room_for(Path(config.reuse_folder or default_folder()))
    return SearchPlan(
        start=start,
        suggestions=tuple(drawn[:_SHOWN]),
        epochs=epochs,
        full_epochs=config.trials * base.training.epochs,
        hours=(startup_s + epochs * seconds / start.slots) / 3600.0,
        startup_s=startup_s,
        checkpoint_bytes=_checkpoint_bytes(base, start),
        kept=kept_trials(base, config),
        costs={depth: cost for depth, cost in costs.items() if depth},
        shares=shares,
        feature_bytes=sum(
            cost.entry_bytes * (microbatches * base.training.epochs + batches) for depth, cost in costs.items() if depth
        ),
        room_bytes=room if config.reuse_gib is None else int(config.reuse_gib * 2**30),
    )


def _expected_epochs(config: SearchConfig, epochs: int) -> int:
    """Of successive halving where each rung lets one of `reduction_factor` go on; at most what the budget says."""
    each = float(epochs)
    if config.ends_early == "asha" and config.grace_epochs < epochs:
        factor, rung, reached, each = config.reduction_factor, float(config.grace_epochs), 1.0, 0.0
        before = 0.0
        for _ in range(int(log(epochs / config.grace_epochs) / log(factor)) + 1):
            each += reached * (rung - before)
            reached, before, rung = reached / factor, rung, rung * factor
        each += reached * (epochs - before)
    total = ceil(each * config.trials)
    return total if config.total_epochs is None else min(total, config.total_epochs)


def _batches(job: JobConfig, start: SearchStart) -> tuple[int, int]:
    """Validation batches, as large as microbatches, and training microbatches of an epoch."""
    size = job.training.microbatch_size
    return ceil(start.facts.val / size), ceil(start.facts.train / size)


def _cost(job: JobConfig, start: SearchStart, depth: int, kept: torch.dtype) -> TrunkCost:
    size = job.training.microbatch_size
    model = build_model(job.model.structure, start.facts.classes, 0.0, job.seed)
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    use_onednn(model, job.training)
    trunk, suffix = split(model, depth)
    suffix.train()
    spec = SourceSpec(job.data, decoder(job), job.augmentation, job.seed, job.cluster.cpus_per_worker or 1)
    source = training_source(spec, start.data.split("train"), job.training.global_batch_size, size, RankShare())
    teacher = None if start.teacher is None else start.teacher.teacher()
    images_s, trunk_s, teacher_s, suffix_s, read_s = (list[float]() for _ in range(5))
    entry = 0
    with source:
        began = perf_counter()
        for step in source.epoch(0):
            for microbatch in step.microbatches:
                images_s.append(perf_counter() - began)
                began = perf_counter()
                features = microbatch.images if trunk is None else trunk(microbatch.images)
                trunk_s.append(perf_counter() - began)
                began = perf_counter()
                if teacher is not None:
                    teacher.answer(microbatch.images)
                teacher_s.append(0.0 if teacher is None else perf_counter() - began)
                began = perf_counter()
                suffix(features).sum().backward()
                suffix_s.append(perf_counter() - began)
                header, body = pack(features, kept)
                entry = max(entry, len(header) + len(body))
                data = memoryview(bytearray(header + bytes(body)))
                began = perf_counter()
                unpack(data)
                read_s.append(perf_counter() - began)
                began = perf_counter()
            if len(images_s) > _MEASURED:
                break
    seconds = (images_s, trunk_s, teacher_s, suffix_s, read_s)
    return TrunkCost(*(median(each[1:] or each) for each in seconds), entry_bytes=entry)


def _checkpoint_bytes(job: JobConfig, start: SearchStart) -> int:
    """Of all checkpoints of a trial that stay."""
    each = checkpoint_bytes(job.model, job.freezing, job.optimizer, job.training.epochs, start.facts.classes)
    return each * (job.checkpoint.keep_last + 1)
