"""Parts of a cross-validation: each image in one, each class in all, groups whole."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_pipeline.errors import DataError
from data_pipeline.splits.grouping import largest_groups_first
from data_pipeline.views.randomness import Purpose, draw


def assign_folds(
    keys: NDArray[np.uint64],
    labels: NDArray[np.int64],
    groups: Sequence[str | None],
    classes: Sequence[str],
    folds: int,
    seed: int,
) -> NDArray[np.int64]:
    """The fold, 0 .. folds - 1, of N samples: int64 [N], stratified by label, groups whole.

    Groups go first, largest first, each to the fold that has least of its classes; then each image without a group
    goes to the fold that has least of its class, and least of all where several have. So a class without groups
    differs by one image at most between folds. A row's fold depends on its own key and on which others there are,
    not on their order, nor on that of the `classes`, which name the labels. Raises DataError for a class that a fold
    lacks, see `refuse_starved`.
    """
    place_of = {name: place for place, name in enumerate(sorted(classes))}
    classes, labels = sorted(classes), np.array([place_of[name] for name in classes], dtype=np.int64)[labels]
    counts = np.bincount(labels, minlength=len(classes))
    found = np.full(len(keys), -1, dtype=np.int64)
    held = np.zeros((len(classes), folds), dtype=np.int64)
    _place_groups(found, held, labels, groups, counts, seed)
    alone = np.flatnonzero(found < 0)
    # The second word: the first decides the splits, which must not show in the folds.
    bits = draw(seed, Purpose.SPLIT, 0, keys[alone], 2)[:, 1]
    total = held.sum(axis=0)
    for row in alone[np.lexsort((keys[alone], bits, labels[alone]))].tolist():
        fold = int(np.lexsort((total, held[labels[row]]))[0])
        found[row] = fold
        held[labels[row], fold] += 1
        total[fold] += 1
    refuse_starved(found, labels, groups, classes, folds)
    return found


def refuse_starved(
    found: NDArray[np.int64],
    labels: NDArray[np.int64],
    groups: Sequence[str | None],
    classes: Sequence[str],
    folds: int,
) -> None:
    """Raises DataError if one of the folds `found` has no image of a class, which then could not be judged there."""
    for label in np.unique(labels).tolist():
        rows = np.flatnonzero(labels == label)
        lacking = sorted(set(range(folds)).difference(found[rows].tolist()))
        if not lacking:
            continue
        alone = sum(groups[row] is None for row in rows.tolist())
        grouped = len({groups[row] for row in rows.tolist()} - {None})
        parts = [f"{grouped} group{'s' * (grouped > 1)}"] * (grouped > 0)
        parts += [f"{alone} image{'s' * (alone > 1)}{' alone' * (grouped > 0)}"] * (alone > 0)
        has = f"has {' and '.join(parts)} outside of test, fewer than data.folds={folds}"
        if grouped + alone >= folds:
            has = f"has no image in fold {lacking[0]} of data.folds={folds}"
        raise DataError(
            f"class {classes[label]!r} {has}; use fewer folds, add images or finer groups, leave the class out "
            "(data.ignore_classes), or correct the column fold where a labels file has one"
        )


def _place_groups(
    found: NDArray[np.int64],
    held: NDArray[np.int64],
    labels: NDArray[np.int64],
    groups: Sequence[str | None],
    counts: NDArray[np.int64],
    seed: int,
) -> None:
    """Fill in the folds of rows that have a group, and what each fold then holds: int64 [classes, folds]."""
    for rows in largest_groups_first(groups, seed, 1):
        label, count = np.unique(labels[rows], return_counts=True)
        # Shares of each class, so that a rare one counts as much as a common one.
        crowded = (count / counts[label]) @ (held[label] / counts[label][:, None])
        fold = int(np.lexsort((held.sum(axis=0), crowded))[0])
        found[rows] = fold
        held[label, fold] += count
