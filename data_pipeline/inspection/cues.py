"""Whether a trivial property of an image, such as its brightness or size, predicts its class by itself.

A network learns whatever separates the classes. If all images of one class are darker because they were taken on
another day, it learns the light, and fails on the line (Geirhos et al., "Shortcut Learning in Deep Neural Networks",
2020, arXiv:2004.07780). So one property at a time is given to the simplest predictor there is, and cross-validated.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_pipeline.views.randomness import Purpose, draw

FOLDS = 5
MARGIN = 0.1
"""How far above chance a cue's accuracy must certainly lie. Weaker cues are in every data set, and a network gains
little by them: contrast is 0.08 above chance among scikit-learn's digits and 0.10 among Fashion-MNIST's garments. A
property that gives one class of six away completely, and nothing else, is 0.17 above. Honest data can have stronger
ones: brightness is 0.18 above chance in Fashion-MNIST, since trousers are narrow. So a person judges what is found."""

_MOST_BINS = 32
_MOST_CELLS = 2_000_000  # of a table tokens x classes: 16 MB
_Z = 1.959963984540054
_SEED, _WORD = 0, 2  # the first two words of a split's draw decide splits and folds of the training
_TIE = 1e-9  # two frequencies that differ by rounding only
_DIGITS_AS_MARKS = str.maketrans("0123456789", "##########")

Bins = Callable[[NDArray[np.bool_]], NDArray[np.int64]]
"""Training rows, bool [N] -> the bin of each row, int64 [N] from 0, made without a look at the others."""


@dataclass(frozen=True)
class Cue:
    """How well one property alone predicts the class."""

    name: str
    balanced_accuracy: float
    """Mean recall over the classes that have images, cross-validated, in 0..1."""
    interval: tuple[float, float]
    """95 %, of the balanced accuracy."""
    chance: float
    """What a guess reaches: 1 / number of the classes that have images."""
    recalls: tuple[float, ...]
    """Of each class, in 0..1; NaN without images."""

    @property
    def is_spurious(self) -> bool:
        """Whether the interval lies above chance by more than `MARGIN`. If the property is what the classes are about,
        such as size among sizes, a person may know that this is right."""
        return self.interval[0] > self.chance + MARGIN


def numeric_cue(
    name: str,
    values: NDArray[np.floating] | NDArray[np.integer],
    labels: NDArray[np.int64],
    classes_count: int,
    keys: NDArray[np.uint64],
    groups: NDArray[np.int64] | None = None,
) -> Cue:
    """How well a number predicts the class: values [N], any number or NaN, labels int64 [N] in 0..classes_count-1.

    Up to 32 values that come twice on average have a bin each. Else bins are quantiles of the training folds, up to 32
    and no more than the root of their images. NaN has a bin of its own. For the rest see `categorical_cue`.
    """
    numbers = values.astype(np.float64)

    def bins(is_training: NDArray[np.bool_]) -> NDArray[np.int64]:
        return _quantile_bins(numbers, is_training)

    return _cue(name, bins, _Images.of(name, len(numbers), labels, classes_count, keys, groups))


def categorical_cue(
    name: str,
    values: Sequence[str],
    labels: NDArray[np.int64],
    classes_count: int,
    keys: NDArray[np.uint64],
    groups: NDArray[np.int64] | None = None,
) -> Cue:
    """How well a token predicts the class: N texts, labels int64 [N] in 0..classes_count-1, keys uint64 [N].

    The predictor takes the class in which the token is the most frequent, however large the class is; what no training
    image has is guessed. It is cross-validated in 5 folds, which depend on the keys and not on the order of the rows.
    groups: int64 [N], images of one group, such as near-duplicates, are never in two folds, and count as one image
    of each of their classes: else a property would predict its own copies. None: every image is alone.

    The interval combines Wilson's intervals of the classes' recalls (Wilson, 1927) by MOVER (Zou and Donner,
    "Construction of confidence limits about effect measures", 2008). Unlike a bootstrap's, it has a width where every
    image is predicted rightly, or none, and where a class has a few images only. n is the number of groups, divided by
    1 + 5 / 4 since folds share training images (Nadeau and Bengio, "Inference for the Generalization Error", 2003).
    Without that, the intervals of useless cues miss chance three times as often as they should.

    Raises ValueError for another number of labels, keys or groups than of values, no images, and labels out of range.
    """
    images = _Images.of(name, len(values), labels, classes_count, keys, groups)
    codes = _codes(values, max(1, _MOST_CELLS // classes_count))
    return _cue(name, lambda _: codes, images)


def name_features(sample_ids: Sequence[str]) -> dict[str, list[str] | NDArray[np.float64]]:
    """What the files' names hold, without their folders, which are labels: columns by name, one value for each id.

    pattern: the name with # for each digit; prefix: the letters that it begins with; extension: as it is written, with
    its dot, empty without; number: the last run of digits before the extension, float64 [N], NaN without.
    A name that holds its class's name, as `crack_001.jpg`, predicts the class, though no network sees it.
    """
    names = [sample_id.rpartition("/")[2] for sample_id in sample_ids]
    stems = [name.rpartition(".")[0] or name for name in names]
    numbers = [re.findall(r"[0-9]+", stem) for stem in stems]
    return {
        "pattern": [name.translate(_DIGITS_AS_MARKS) for name in names],
        "prefix": [re.split(r"[\W\d_]", stem, maxsplit=1)[0] for stem in stems],
        "extension": [name[len(stem) :] for name, stem in zip(names, stems, strict=True)],
        "number": np.array([float(runs[-1]) if runs else np.nan for runs in numbers], dtype=np.float64),
    }


@dataclass(frozen=True)
class _Images:
    """N images of C classes, in folds."""

    labels: NDArray[np.int64]
    classes: int
    weights: NDArray[np.float64]
    """[N] 1 / number of the images of the same group and class."""
    folds: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        name: str,
        count: int,
        labels: NDArray[np.int64],
        classes: int,
        keys: NDArray[np.uint64],
        groups: NDArray[np.int64] | None,
    ) -> "_Images":
        """Raises ValueError, see `categorical_cue`."""
        if count == 0:
            raise ValueError(f"cue {name!r} has no images; at least one is needed, leave the cue out")
        if groups is None:
            groups = np.arange(count, dtype=np.int64)
        for other, length in (("labels", len(labels)), ("keys", len(keys)), ("groups", len(groups))):
            if length != count:
                raise ValueError(
                    f"cue {name!r} has {count} values and {length} {other}; each image has one of both, select the "
                    "same images"
                )
        if wrong := np.flatnonzero((labels < 0) | (labels >= classes)).tolist():
            raise ValueError(
                f"cue {name!r}: the label of row {wrong[0]} is {labels[wrong[0]]}; with classes_count={classes} it "
                f"must lie from 0 to {classes - 1}, correct either"
            )
        group_rows = np.unique(groups, return_inverse=True)[1]
        _, units, sizes = np.unique(group_rows * classes + labels, return_inverse=True, return_counts=True)
        return cls(labels, classes, 1.0 / sizes[units], _folds(labels, keys, group_rows))


def _folds(labels: NDArray[np.int64], keys: NDArray[np.uint64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """[N] in 0..FOLDS-1: groups, numbered from 0, are dealt out in an order drawn from the keys, class by class.

    A group's draw and class are those of its smallest key, so the order of the rows does not matter.
    """
    by_group = np.lexsort((keys, groups))
    first = by_group[np.append(True, np.diff(groups[by_group]) > 0)]
    bits = draw(_SEED, Purpose.INSPECTION, 0, keys[first], _WORD + 1)[:, _WORD]
    folds = np.empty(len(first), dtype=np.int64)
    folds[np.lexsort((keys[first], bits, labels[first]))] = np.arange(len(first)) % FOLDS
    return folds[groups]


def _cue(name: str, bins: Bins, images: _Images) -> Cue:
    credit = np.zeros(len(images.labels))
    for fold in range(FOLDS):
        is_training = images.folds != fold
        rows = np.flatnonzero(~is_training)
        if is_training.any() and len(rows):
            found = bins(is_training)
            table = _credits(found, images, is_training)
            credit[rows] = table[found[rows], images.labels[rows]]
        else:  # a single group: there is nothing to learn from
            credit[rows] = 1.0 / images.classes
    units = np.bincount(images.labels, weights=images.weights, minlength=images.classes).astype(np.float64)
    right = np.bincount(images.labels, weights=images.weights * credit, minlength=images.classes)
    present = units > 0
    recalls = np.divide(right, units, out=np.full(images.classes, np.nan), where=present)
    interval = _interval(np.clip(recalls[present], 0.0, 1.0), units[present])
    accuracy, chance = float(recalls[present].mean()), 1.0 / int(present.sum())
    return Cue(name, accuracy, interval, chance, tuple(recalls.tolist()))


def _credits(bins: NDArray[np.int64], images: _Images, is_training: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[bins, C]: what an image of a class earns in a bin: 1 where the class is the one predicted, a share in a tie.

    A bin's frequency within a class is smoothed by as many images as there are bins, spread as the classes are on
    average: Laplace's rule, which spreads them evenly, would predict the smallest class in every bin that is rare.
    """
    shape = (int(bins.max()) + 1, images.classes)
    cells = bins[is_training] * images.classes + images.labels[is_training]
    counts = np.bincount(cells, weights=images.weights[is_training], minlength=shape[0] * shape[1]).reshape(shape)
    totals = counts.sum(axis=0)
    is_known = totals > 0
    known = counts[:, is_known] / totals[is_known]
    average = known.mean(axis=1, keepdims=True)
    strength = np.count_nonzero(average)
    scores = np.full(shape, -1.0)
    scores[:, is_known] = (counts[:, is_known] + strength * average) / (totals[is_known] + strength)
    is_best = scores >= scores.max(axis=1, keepdims=True) * (1.0 - _TIE)
    return is_best / is_best.sum(axis=1, keepdims=True)


def _quantile_bins(values: NDArray[np.float64], is_training: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[N] the last bin is that of NaN."""
    known = np.sort(values[is_training & ~np.isnan(values)])
    edges = known[1:][known[1:] > known[:-1]]
    if len(edges) >= max(1, min(_MOST_BINS, len(known) / 2)):
        most = int(min(_MOST_BINS, max(2, np.sqrt(len(known)))))
        edges = np.unique(known[np.arange(1, most) * len(known) // most])
    bins = np.searchsorted(edges, values, side="right")
    return np.where(np.isnan(values), len(edges) + 1, bins).astype(np.int64)


def _codes(tokens: Sequence[str], most: int) -> NDArray[np.int64]:
    """[N] a number for each token; beyond the `most` frequent ones all have the same."""
    ranked = sorted(Counter(tokens).items(), key=lambda item: (-item[1], item[0]))
    code = {token: min(place, most - 1) for place, (token, _) in enumerate(ranked)}
    return np.array([code[token] for token in tokens], dtype=np.int64)


def _interval(recalls: NDArray[np.float64], units: NDArray[np.float64]) -> tuple[float, float]:
    """95 % of the mean of recalls [C], each of so many units; see `categorical_cue`."""
    units = units / (1.0 + FOLDS / (FOLDS - 1))
    spread = _Z**2 / units
    centre = (recalls + spread / 2) / (1 + spread)
    half = _Z * np.sqrt(recalls * (1 - recalls) / units + spread / units / 4) / (1 + spread)
    below = np.sqrt(np.sum((recalls - np.maximum(centre - half, 0.0)) ** 2)) / len(recalls)
    above = np.sqrt(np.sum((np.minimum(centre + half, 1.0) - recalls) ** 2)) / len(recalls)
    mean = recalls.mean()
    return max(float(mean - below), 0.0), min(float(mean + above), 1.0)
