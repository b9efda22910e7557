"""Hashes of 256 bits that are near for copies of one photograph: of what tells an image from the others of its set.

Parts on a fixture look alike but for small marks, and a hash of the image calls all of them copies. So what the set has
in common is taken away first: the mean of all thumbnails and the strongest ways in which they differ (their principal
components), light and lenses above all. Neither depends on labels. The bits are the signs of the 256 lowest frequencies
of what is left (a perceptual hash by DCT: Zauner, 2010), for a small shift hardly turns those.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_pipeline.inspection.thumbnails import SIDE

BITS = 256
MODES = 8
"""Principal components that are taken away from a set of enough images."""
_FEWEST_FOR_MEAN = 32
_FEWEST_FOR_MODE = 64
"""Images for each principal component: of a small set they would hold its images themselves."""
_MOST_SAMPLED = 20_000
_FEWEST_LEVELS = 0.25
"""Standard deviation of a thumbnail, in grey levels, below which it shows nothing that a hash could tell."""
_BATCH = 4096


@dataclass(frozen=True)
class Reference:
    """What a set of images has in common, as waves: see `waves_of`."""

    mean: NDArray[np.float64]
    """[BITS] of thumbnails of mean 0 and norm 1; zeros for a small set."""
    modes: NDArray[np.float64]
    """[at most MODES, BITS], orthonormal."""
    images: int
    """How many it was made of."""

    @property
    def digest(self) -> str:
        """BLAKE2b-128, in hex, of what it takes away, as 32-bit numbers."""
        content = self.mean.astype("<f4").tobytes() + self.modes.astype("<f4").tobytes()
        return hashlib.blake2b(content, digest_size=16).hexdigest()


def reference_of(thumbnails: NDArray[np.uint16]) -> Reference:
    """Of thumbnails [N, SIDE, SIDE]; of a set beyond 20,000, of as many spread over it."""
    return reference_of_waves(waves_of(thumbnails[shows_something(thumbnails)]))


def reference_of_waves(waves: NDArray[np.float64]) -> Reference:
    """The same, of what `waves_of` makes of thumbnails that show something: [N, BITS]."""
    waves = waves[:: -(-len(waves) // _MOST_SAMPLED) or 1]
    if len(waves) < _FEWEST_FOR_MEAN:
        return Reference(np.zeros(BITS), np.zeros((0, BITS)), len(waves))
    mean = waves.mean(axis=0)
    count = min(MODES, len(waves) // _FEWEST_FOR_MODE)
    centred = waves - mean
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return Reference(mean, vectors[:, ::-1][:, :count].T.copy(), len(waves))


def shows_something(thumbnails: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """bool [N]: whether a thumbnail is more than one colour. The hash of one that is not says nothing."""
    levels = thumbnails.reshape(len(thumbnails), SIDE * SIDE) / np.float32(256)
    return levels.std(axis=1) >= _FEWEST_LEVELS


def hashes_of(thumbnails: NDArray[np.uint16], reference: Reference, *, mirrored: bool = False) -> NDArray[np.uint64]:
    """uint64 [N, 4] of thumbnails [N, SIDE, SIDE]; `mirrored`: of the images as a mirror shows them, left to right."""
    return hashes_of_waves(waves_of(thumbnails), reference, mirrored=mirrored)


def hashes_of_waves(waves: NDArray[np.float64], reference: Reference, *, mirrored: bool = False) -> NDArray[np.uint64]:
    """The same, of what `waves_of` makes of thumbnails: [N, BITS]."""
    left = (waves * _MIRROR if mirrored else waves) - reference.mean
    left -= left @ reference.modes.T @ reference.modes
    return np.ascontiguousarray(np.packbits(left > 0.0, axis=1, bitorder="little")).view("<u8").astype(np.uint64)


def waves_of(thumbnails: NDArray[np.uint16]) -> NDArray[np.float64]:
    """[N, BITS]: how much of each of the lowest frequencies but the mean is in the thumbnails, each of norm 1."""
    found = np.empty((len(thumbnails), BITS))
    for start in range(0, len(thumbnails), _BATCH):
        normal = _normalised(thumbnails[start : start + _BATCH]).reshape(-1, SIDE, SIDE)
        waves = (_COSINES @ normal @ _COSINES.T).reshape(len(normal), -1)
        found[start : start + _BATCH] = waves[:, _LOWEST]
    return found


def _normalised(thumbnails: NDArray[np.uint16]) -> NDArray[np.float64]:
    """[N, SIDE * SIDE] of mean 0 and norm 1, so that exposure and contrast do not count; zeros for one colour."""
    flat = thumbnails.reshape(len(thumbnails), SIDE * SIDE).astype(np.float64)
    flat -= flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.divide(flat, norms, out=np.zeros_like(flat), where=norms > 0.0)


def _cosines() -> NDArray[np.float64]:
    """[SIDE, SIDE], orthonormal: the wave of each frequency at the middle of each pixel, the DCT-II."""
    frequency, pixel = np.arange(SIDE)[:, None], np.arange(SIDE) + 0.5
    waves = np.cos(np.pi * frequency * pixel / SIDE) * np.sqrt(2.0 / SIDE)
    waves[0] /= np.sqrt(2.0)
    return waves


def _lowest() -> NDArray[np.int64]:
    """[BITS]: positions of the lowest frequencies but the mean, by distance from zero, in a flat [SIDE, SIDE]."""
    squares = np.arange(SIDE) ** 2
    return np.argsort(np.add.outer(squares, squares).ravel(), kind="stable")[1 : BITS + 1]


_COSINES = _cosines()
_LOWEST = _lowest()
_MIRROR = np.where(_LOWEST % SIDE % 2 == 1, -1.0, 1.0)
"""A mirror turns the sign of the waves that are odd from left to right."""
