"""Which labels are probably wrong: confident learning over the predictions of a model that did not see the images.

Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels" (JAIR 70, 2021,
arXiv:1911.00068). What a model, trained without an image, thinks of it is compared with what it thinks on average of
the images that carry the same label. Two things differ from the paper, both because they were measured to be better
(`benchmarks/label_errors.py`): a class's threshold is never below chance, and images are ranked and chosen by the
odds of the best other class, over all classes at once, instead of being pruned class by class.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SUM_TOLERANCE = 1e-3
_SLACK = 1e-6  # a mean of equal numbers may be above them by rounding


@dataclass(frozen=True)
class LabelErrors:
    """What N predictions say of N labels of C classes."""

    thresholds: NDArray[np.float64]
    """[C] in 0..1. A model is confident that an image is of a class where its probability reaches this: the mean
    probability of the class over the images with that label, 1 / C at least; infinite for a class without images."""
    joint: NDArray[np.float64]
    """[C, C], from 0: how many images with label i are estimated to be of class j. A row's sum is the number of images
    with that label. The model's own confusions are in it, so a weak model makes it too high off the diagonal."""
    score: NDArray[np.float64]
    """[N] in 0..1, 1 where the label is most likely wrong: p / (p + q), p being the probability of the suggested class
    and q that of the label. Above 0.5 the model prefers the suggested class."""
    order: NDArray[np.int64]
    """[N] all rows, the highest score first; equal ones in the order of the rows."""
    likely: NDArray[np.bool_]
    """[N] the images that are estimated to be wrong: the first of `order`, so many as the model says confidently are of
    another class, which is also the most probable one."""
    suggested: NDArray[np.int64]
    """[N] the most probable class other than the label; the label itself where there is one class only."""

    @property
    def share(self) -> float:
        """Of wrong labels in all, in 0..1, by the joint: too high where the model is weak."""
        return 1.0 - float(np.trace(self.joint) / self.joint.sum())

    @property
    def pair_shares(self) -> NDArray[np.float64]:
        """[C, C] in 0..1, their sum 1: of images with label i that are of class j, by the joint."""
        return self.joint / self.joint.sum()


def find_label_errors(probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> LabelErrors:
    """Rank N images of C classes by how likely their labels are wrong. Pure; classes may be of any size, or empty.

    probabilities: float [N, C] in 0..1, rows with the sum 1 within 1e-3, from models that were not trained on the image
    (cross-validation). labels: int64 [N] in 0..C-1.

    The ranking. Images go by the ratio of the best other class's probability to the label's. Measured on Fashion-MNIST
    with 5 % wrong labels, drawn uniformly or of the most similar class, on 10,000 images of ten classes and on six
    classes of 30 to 1,000, predicted by a logistic regression: the first tenth of the list holds 90.5 % of them, by
    self-confidence 89.8 %, normalised margin 89.2 %, confidence-weighted entropy 84.0 %. Its average precision is 0.77,
    theirs 0.76, 0.77 and 0.62. The margin is behind where wrong labels are uniform (0.71, ours 0.84). Probabilities
    adjusted by class thresholds rank worse by each score (71.8 % at best).

    The number of `likely`. It is that of the paper's confident joint off the diagonal, where the class is the most
    probable one too. The paper's pruning methods choose images class by class, by the calibrated joint: its "both"
    takes 15 % more images on these sets, of which fewer are wrong. A model no better than chance takes almost all
    labels to be wrong, so its accuracy must be looked at first.

    Raises ValueError for other shapes or types, no images, values that are no probabilities, and labels out of range.
    """
    _refuse(probabilities, labels)
    given = probabilities.astype(np.float64)
    rows, (images, classes) = np.arange(len(labels)), given.shape
    thresholds = _thresholds(given, labels)
    confident = _confident_class(given, thresholds)
    others = given.copy()
    others[rows, labels] = -1.0
    suggested = others.argmax(axis=1).astype(np.int64) if classes > 1 else labels.copy()
    of_label, of_other = given[rows, labels], np.maximum(others[rows, suggested], 0.0)
    # The ratio tells apart what the score rounds to 1: a confident network's probabilities go down to 1e-45.
    with np.errstate(divide="ignore", over="ignore"):
        ratio = of_label / of_other
    order = np.argsort(ratio, kind="stable").astype(np.int64)
    is_off = (confident >= 0) & (confident != labels) & (of_other > of_label)
    likely = np.zeros(images, dtype=np.bool_)
    likely[order[: np.count_nonzero(is_off)]] = True
    joint = _calibrated_joint(confident, labels, classes)
    return LabelErrors(thresholds, joint, 1.0 / (1.0 + ratio), order, likely, suggested)


def _thresholds(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """[C] mean probability of each class over the images with that label, 1 / C at least; infinite without images.

    Of a few images a network learns nothing, so the mean can be near 0, and by the paper alone every image would be
    confidently of that class unless it reaches another threshold. With classes of 6, 8 and 12 images of Fashion-MNIST
    among one of 300 and two of 1,000, 5 % of the labels wrong, the joint's share was 20 to 29 % without the bound, and
    7 to 10 % with it.
    """
    images, classes = probabilities.shape
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=probabilities[np.arange(images), labels], minlength=classes)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    return np.maximum(means, 1.0 / classes)


def _confident_class(probabilities: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """[N] the most probable of the classes whose threshold an image reaches; -1 where it reaches none."""
    reached = np.where(probabilities >= thresholds - _SLACK, probabilities, -1.0)
    best = reached.argmax(axis=1).astype(np.int64)
    return np.where(reached.max(axis=1) >= 0.0, best, -1)


def _calibrated_joint(confident: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """[C, C] the counts of (label, confident class), each row scaled to the number of its label's images.

    A label that no image reaches confidently is taken to be right once, so that its row can be scaled.
    """
    is_counted = confident >= 0
    cells = labels[is_counted] * classes + confident[is_counted]
    joint = np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.float64)
    np.fill_diagonal(joint, np.maximum(np.diagonal(joint), 1.0))
    counts = np.bincount(labels, minlength=classes)
    return joint / joint.sum(axis=1, keepdims=True) * counts[:, None]


def _refuse(probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> None:
    if probabilities.ndim != 2 or probabilities.dtype.kind != "f" or 0 in probabilities.shape:
        raise ValueError(
            f"probabilities are {probabilities.dtype} {list(probabilities.shape)}; they must be float [N, C] with an "
            "image and a class at least: give one row for each image and one column for each class"
        )
    images, classes = probabilities.shape
    if labels.shape != (images,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels are {labels.dtype} {list(labels.shape)}; they must be int64 [{images}], one for each row of the "
            "probabilities: select the same images for both"
        )
    if wrong := np.flatnonzero((labels < 0) | (labels >= classes)).tolist():
        raise ValueError(
            f"the label of row {wrong[0]} is {labels[wrong[0]]}; with {classes} columns of probabilities it must lie "
            f"from 0 to {classes - 1}: number the classes in the order of the columns"
        )
    if wrong := np.flatnonzero(~np.isfinite(probabilities).all(axis=1)).tolist():
        raise ValueError(
            f"the probabilities of row {wrong[0]} are {_text(probabilities[wrong[0]])}; all must be finite: the model "
            "that made them has diverged, train it anew"
        )
    sums = probabilities.sum(axis=1, dtype=np.float64)
    is_none = (np.abs(sums - 1.0) > _SUM_TOLERANCE) | (probabilities < 0.0).any(axis=1)
    if wrong := np.flatnonzero(is_none).tolist():
        raise ValueError(
            f"the probabilities of row {wrong[0]} are {_text(probabilities[wrong[0]])}, their sum is "
            f"{sums[wrong[0]]:g}; each must be 0 or more and the sum 1 within {_SUM_TOLERANCE:g}: apply softmax to "
            "logits first"
        )


def _text(row: NDArray[np.floating]) -> str:
    """The first numbers of a row, for a message."""
    return f"[{', '.join(f'{value:g}' for value in row[:4].tolist())}{', ...' if len(row) > 4 else ''}]"
