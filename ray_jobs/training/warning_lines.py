"""What a person should know of a training that goes on all the same: one line each, with what to do."""

from collections.abc import Sequence

import numpy as np

from data_pipeline.splits.assign import read_split_csv
from ray_jobs.data.prepare import PreparedData
from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RunDirectory
from ray_jobs.trackers.tracker import Plain
from resnet_dist.evaluation.few_images import ENOUGH
from resnet_dist.model.config import FREEZABLE, FreezingConfig, freezing_phases

_MOST_NAMED = 10
"""Classes that one line names."""


def start_warnings(job: JobConfig, data: PreparedData) -> tuple[str, ...]:
    """What is known before training starts."""
    return (*frozen_at_random(job), *few_images(data), *taught_images(job, data))


def frozen_at_random(job: JobConfig) -> list[str]:
    """Stages that are not trained, or not at first, and whose weights nobody has learnt."""
    phases = freezing_phases(job.freezing)
    kept = {name: policy for name, policy in zip(FREEZABLE, phases[0][1], strict=True) if policy != "trainable"}
    if job.model.weights != "none" or not kept:
        return []
    groups: list[str] = []
    for policy in ("frozen", "bn_frozen"):
        names = [name for name, own in kept.items() if own == policy]
        if names:
            groups.append(f"{_listed(names)} {'are' if len(names) > 1 else 'is'} {policy}")
    at_first = " at first" if len(phases) > 1 else ""
    return [
        f"warning: model.weights=none starts from random weights, and {_cause(job.freezing)} keeps some of them: "
        f"{', '.join(groups)}{at_first}; train all stages, or start from learnt weights (--model.weights imagenet)"
    ]


def few_images(data: PreparedData) -> list[str]:
    """Classes of which a split has fewer than ten images, by split."""
    lines: list[str] = []
    for split in data.counts:
        samples = data.split(split)
        counts = np.bincount(samples.labels, minlength=len(samples.classes)).tolist()
        few = [(name, count) for name, count in zip(samples.classes, counts, strict=True) if count < ENOUGH]
        if few:
            named = ", ".join(f"{' '.join(name.split())} ({count})" for name, count in few[:_MOST_NAMED])
            more = f" and {len(few) - _MOST_NAMED} other classes" if len(few) > _MOST_NAMED else ""
            purpose = "learn a class from" if split == "train" else "judge a class by"
            lines.append(
                f"warning: {split} has few images of {named}{more}: fewer than {ENOUGH} are too few to {purpose}; "
                "add images, or merge classes (data.rename_classes)"
            )
    return lines


def taught_images(job: JobConfig, data: PreparedData) -> list[str]:
    """Whether the teacher was trained on images of the job's val, by their names in its split.csv."""
    name = job.distillation.teacher
    if name is None:
        return []
    rows = read_split_csv(RunDirectory.find(name, job.storage.root).read_split_csv())
    learnt, judged = {row.sample_id for row in rows if row.split == "train"}, data.split("val").sample_ids
    both = sum(sample_id in learnt for sample_id in judged)
    if not both:
        return []
    return [
        f"warning: distillation.teacher={name} was trained on {both} of the {len(judged)} images of val, by the names "
        "in its split.csv: it knows their labels, so val flatters what learns from it; give both runs the same split "
        "(the same seed and fractions, or a split column in data.labels)"
    ]


class OneAnswerWatch:
    """Says when a model begins to answer one class for every image of val, though val has several."""

    def __init__(self, classes: Sequence[Sequence[Plain]]) -> None:
        """`classes`: name, training and validation images of each."""
        self._names = [str(name) for name, _, _ in classes]
        self._in_val = sum(bool(val) for _, _, val in classes)
        self._before: int | None = None

    def after(self, epoch: int, answered: Sequence[int]) -> list[str]:
        """A line where the classes that were `answered` in an epoch's validation are one, and were not it before."""
        only = answered[0] if len(answered) == 1 and self._in_val > 1 else None
        is_new, self._before = only is not None and only != self._before, only
        if only is None or not is_new:
            return []
        return [
            f"warning: after epoch {epoch} the model answers nothing but {' '.join(self._names[only].split())} on val, "
            f"which has {self._in_val} classes; if later epochs do not change that, lower optimizer.learning_rate, or "
            "balance rare classes (data.sampling=balanced)"
        ]


def _cause(freezing: FreezingConfig) -> str:
    own = [name for name in FREEZABLE if getattr(freezing, name) not in (None, "trainable")]
    if own:
        return f"freezing.{own[0]}={getattr(freezing, own[0])}"
    if freezing.preset is not None:
        return f"freezing.preset={freezing.preset}"
    return f"freezing.freeze_depth={freezing.freeze_depth}"


def _listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
