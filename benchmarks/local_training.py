"""Training in this process, without Ray: what the scripts that compare options have in common."""

import os
import statistics
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import torch

from data_pipeline.listing.samples import Samples
from data_pipeline.sources.build import evaluation_source, training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from data_pipeline.views.randomness import Purpose, SeededDraw, draw
from ray_jobs.data.prepare import decoder
from ray_jobs.job.config import JobConfig
from ray_jobs.training.cross_validation import aggregate
from resnet_dist.evaluation.judge import EvaluationResult, report
from resnet_dist.features.reuse import FeatureReuse
from resnet_dist.model.resnet import ResNetClassifier, build_model
from resnet_dist.training.fit import fit
from resnet_dist.training.rank_group import RankGroup
from resnet_dist.training.setup import Setup
from resnet_dist.training.state import TrainState
from resnet_dist.training.train_step import StepTotals

THREADS = len(os.sched_getaffinity(0))
_WARM_UP_STEPS = 3


@dataclass
class _Speed:
    """Images per second of training steps, each epoch's first ones left out."""

    seconds: list[float] = field(default_factory=list[float])
    images: list[int] = field(default_factory=list[int])
    _since: float | None = None
    _steps: int = 0

    def step_done(self, state: TrainState, totals: StepTotals, waited: float) -> None:  # noqa: ARG002
        """After each step."""
        now = perf_counter()
        self._steps += 1
        if self._since is not None and self._steps > _WARM_UP_STEPS:
            self.seconds.append(now - self._since)
            self.images.append(totals.samples)
        self._since = now

    def epoch_done(self, state: TrainState, metrics: dict[str, float]) -> bool:  # noqa: ARG002
        """After each epoch's validation, which is not training."""
        self._since, self._steps = None, 0
        return True

    @property
    def images_per_second(self) -> float:
        """Over all epochs."""
        return sum(self.images) / sum(self.seconds)


def train_here(
    job: JobConfig,
    train: Samples,
    val: Samples,
    weights: dict[str, torch.Tensor] | None = None,
    reuse: FeatureReuse | None = None,
) -> tuple[ResNetClassifier, float]:
    """The trained network with its averaged weights if there are any, and images per second of its training steps."""
    torch.set_num_threads(THREADS)
    cpu, group = torch.device("cpu"), RankGroup()
    model = build_model(job.model.structure, len(train.classes), job.model.dropout, job.seed)
    if weights is not None:
        own = model.state_dict()
        model.load_state_dict(own | {k: v for k, v in weights.items() if not k.startswith("fc.") and k in own})
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    setup = Setup(
        model=model,
        config=job.model,
        freezing=job.freezing,
        optimizer=job.optimizer,
        schedule=job.schedule,
        schedule_epochs=job.training.epochs,
        training=job.training,
        class_counts=np.bincount(train.labels, minlength=len(train.classes)),
        input_size=job.data.input_size,
        draw=SeededDraw(job.seed),
        group=group,
        device=cpu,
        reuse=reuse,
    )
    state = setup.state_at(0)
    batch, microbatch = job.training.global_batch_size, job.training.microbatch_size
    cached = (None, None) if reuse is None else (reuse.cached_microbatch, reuse.cached_batch)
    spec, share = _spec(job), RankShare()
    training = training_source(spec, train, batch, microbatch, share, cached[0])
    validation = evaluation_source(spec, val, job.evaluation.batch_size, share, cached[1])
    epochs, speed = job.training.epochs, _Speed()
    with training, validation:
        fit(state, setup, training, validation, epochs, job.training.max_skipped_steps, speed)
    model.load_state_dict(state.judged_weights())
    return model, speed.images_per_second


def _spec(job: JobConfig) -> SourceSpec:
    return SourceSpec(job.data, decoder(job), job.augmentation, job.seed, THREADS)


def judge_here(job: JobConfig, model: ResNetClassifier, samples: Samples) -> EvaluationResult:
    """The model on a split, through the validation source."""
    source = evaluation_source(_spec(job), samples, 64, RankShare())
    model.eval()
    logits = np.empty((len(samples), len(samples.classes)), dtype=np.float32)
    with source, torch.no_grad():
        for batch in source.batches():
            logits[batch.rows] = model(batch.images).numpy()
    return report(logits, samples.labels, samples.classes, job.seed, 100)


def interval(values: list[float], percent: bool = True) -> str:
    """Mean and half-width of the 95 % interval over seeds."""
    each = aggregate(values)
    scale = 100.0 if percent else 1.0
    return f"{each.mean * scale:.1f} ± {(each.high - each.mean) * scale:.1f}"


def ratio(values: list[float], references: list[float]) -> float:
    """Median of paired ratios."""
    return statistics.median(own / other for own, other in zip(values, references, strict=True))


def subset(samples: Samples, per_class: int, seed: int) -> Samples:
    """At most so many samples of each class, drawn by the seed."""
    bits = draw(seed, Purpose.SPLIT, 1, samples.keys, 1)[:, 0]
    chosen = [np.flatnonzero(samples.labels == label) for label in range(len(samples.classes))]
    return samples.select(np.sort(np.concatenate([rows[np.argsort(bits[rows])][:per_class] for rows in chosen])))
