"""Labels that are probably wrong, as a finding and as a list to be looked through."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_pipeline.errors import DataError
from data_pipeline.inspection.findings import EXAMPLES, Finding, Inspected, Severity
from data_pipeline.inspection.label_errors import LabelErrors, find_label_errors

_WEAK_SHARE = 0.3
"""Of wrong labels. The estimate holds the model's own mistakes, and few data sets are that bad."""


@dataclass(frozen=True)
class Ranked:
    """The images that have predictions, by how likely their labels are wrong."""

    rows: NDArray[np.int64]
    """Rows of the dataset, most suspicious first."""
    score: NDArray[np.float64]
    """Of each of them, see `LabelErrors.score`."""
    suggested: NDArray[np.int64]
    """Label of the class that the model prefers."""
    likely: NDArray[np.bool_]
    """Whether it is estimated to be wrong."""
    share: float
    """Of labels that are estimated to be wrong, too high where the model is weak."""


def ranked_labels(inspected: Inspected, probabilities: Mapping[str, NDArray[np.floating]]) -> Ranked:
    """Of the images for which there are `probabilities` [C] by sample id, of models that were not trained on them.

    The classes are the dataset's, in its order. Raises DataError where no image has any.
    """
    samples = inspected.dataset.samples
    rows = np.array([row for row, each in enumerate(samples.sample_ids) if each in probabilities], np.int64)
    if not len(rows):
        raise DataError("the predictions are of none of these images; predict with a run of data.folds on this folder")
    given = np.stack([probabilities[samples.sample_ids[row]] for row in rows.tolist()])
    found: LabelErrors = find_label_errors(given, samples.labels[rows])
    order: NDArray[np.int64] = found.order
    return Ranked(rows[order], found.score[order], found.suggested[order], found.likely[order], found.share)


def label_finding(inspected: Inspected, ranked: Ranked, remedy: str) -> Finding:
    """`remedy`: what to do with the list."""
    samples = inspected.dataset.samples
    examples: list[str] = []
    first: list[int] = ranked.rows[:EXAMPLES].tolist()
    for place, row in enumerate(first):
        given, other = samples.classes[int(samples.labels[row])], samples.classes[int(ranked.suggested[place])]
        examples.append(f"{samples.sample_ids[row]}: {given}, rather {other} ({ranked.score[place]:.2f})")
    count = int(ranked.likely.sum())
    if ranked.share > _WEAK_SHARE:
        sentence = (
            f"of {len(ranked.rows)} labels would be wrong ({100 * ranked.share:.0f} % by the model's own estimate), so "
            "the model is too weak to judge labels by"
        )
        return Finding("label-errors", Severity.NOTE, count, sentence, "train better folds first", tuple(examples))
    sentence = f"of {len(ranked.rows)} labels are likely to be wrong"
    return Finding(
        "label-errors", Severity.WARNING if count else Severity.NOTE, count, sentence, remedy, tuple(examples)
    )
