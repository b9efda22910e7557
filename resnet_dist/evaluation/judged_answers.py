"""What answers at an operating point come to on a split, counted by class, and whether the recall asked for is there.

Every number is of all images of the split: an image that is rejected counts, and was not found.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_dist.evaluation.few_images import remark_on
from resnet_dist.evaluation.metrics import from_counts, macro
from resnet_dist.evaluation.operating_points import least_found
from resnet_dist.runtime.operating_point import OperatingPoint


@dataclass(frozen=True)
class ClassCounts:
    """A class's images, each of which is found, missed or rejected; and images of others that are taken for it."""

    images: int
    found: int
    missed: int
    """Answered as another class."""
    rejected: int
    """Not answered."""
    false_alarms: int
    """Images of other classes that are answered as this one."""
    recall: float
    """Found of images, 0..1; 0 where there is none."""
    precision: float
    """Found of all answers of this class, 0..1; 0 where there is none."""
    asked_recall: float | None = None

    @property
    def remark(self) -> str:
        """That there are too few images to judge the class by; else empty."""
        return remark_on(self.images)

    @property
    def misses_recall(self) -> bool:
        """Whether there are images, and fewer of them are found than was asked for."""
        if self.asked_recall is None or not self.images:
            return False
        return self.found < least_found(self.asked_recall, self.images)


@dataclass(frozen=True)
class JudgedAnswers:
    """Counts of a split's images."""

    samples: int
    right: int
    wrong: int
    rejected: int
    metrics: dict[str, float]
    """top1 (right of samples), macro_f1 and balanced_accuracy, over the classes with images."""
    classes: dict[str, ClassCounts]

    @property
    def missed_recalls(self) -> dict[str, str]:
        """The classes that miss the recall asked for, each with a sentence of its numbers."""
        return {
            name: f"{of.found} of {of.images} images of {name} are found ({100 * of.recall:.2f} %), "
            f"{100 * (of.asked_recall or 0):g} % are asked for"
            for name, of in self.classes.items()
            if of.misses_recall
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        classes = {name: {**asdict(of), "remark": of.remark} for name, of in self.classes.items()}
        return {**asdict(self), "classes": classes}


def judge_answers(
    point: OperatingPoint,
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    recalls: dict[str, float],
) -> JudgedAnswers:
    """Counts of the runtime's answers to logits [N, C] with labels [N], N at least 1. `recalls`: what was asked for."""
    candidates, is_answered = point.decide(point.probabilities(logits))
    count = len(classes)
    is_right = is_answered & (candidates == labels)
    images = np.bincount(labels, minlength=count)
    found = np.bincount(labels[is_right], minlength=count)
    rejected = np.bincount(labels[~is_answered], minlength=count)
    answered = np.bincount(candidates[is_answered], minlength=count)
    recall, precision, f1 = from_counts(found, images, answered)
    return JudgedAnswers(
        samples=len(labels),
        right=int(found.sum()),
        wrong=int(is_answered.sum() - found.sum()),
        rejected=int(rejected.sum()),
        metrics={
            "top1": float(found.sum() / len(labels)),
            "macro_f1": float(macro(f1, images)),
            "balanced_accuracy": float(macro(recall, images)),
        },
        classes={
            name: ClassCounts(
                images=int(images[place]),
                found=int(found[place]),
                missed=int(images[place] - found[place] - rejected[place]),
                rejected=int(rejected[place]),
                false_alarms=int(answered[place] - found[place]),
                recall=float(recall[place]),
                precision=float(precision[place]),
                asked_recall=recalls.get(name),
            )
            for place, name in enumerate(classes)
        },
    )
