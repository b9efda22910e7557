"""Randomness as a pure function: raw Philox bits for (seed, purpose, epoch, sample key, occurrence).

Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11) is a keyed bijection of a
counter, so there is no state to keep, to seed or to share between workers. The bits equal those of
`numpy.random.Philox`; they are computed here for many samples at once, and turned into numbers by the few
lines below, so that no library version changes a view.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

_MULTIPLIER_0 = np.uint64(0xD2E7470EE14C6C93)
_MULTIPLIER_1 = np.uint64(0xCA5A826395121157)
_WEYL_0 = 0x9E3779B97F4A7C15
_WEYL_1 = 0xBB67AE8584CAA73B
_MASK_64 = (1 << 64) - 1
_MASK_32 = np.uint64(0xFFFFFFFF)
_SHIFT_32 = np.uint64(32)
_ROUNDS = 10


class Purpose(IntEnum):
    """What a draw is for: one purpose's numbers say nothing of another's. Values are part of every run."""

    ORDER = 1
    VIEW = 2
    DROPOUT = 3
    MIXING = 4
    SPLIT = 5
    SYNTHETIC = 6
    CALIBRATION = 7
    INSPECTION = 8


def draw(
    seed: int,
    purpose: Purpose,
    epoch: int,
    keys: NDArray[np.uint64],
    count: int,
    occurrences: NDArray[np.uint64] | int = 0,
) -> NDArray[np.uint64]:
    """Raw bits: uint64 [len(keys), count], row i a function of (seed, purpose, epoch, keys[i], occurrences[i]).

    A longer draw begins with the shorter one. `seed` and `epoch` are taken modulo 2**64; `occurrences` tells
    apart the repeats of a sample within an epoch (balanced sampling), 0 where there are none.
    """
    rows, blocks = len(keys), -(-count // 4)
    shape = (rows, blocks)
    block = np.broadcast_to(np.arange(1, blocks + 1, dtype=np.uint64), shape)
    key = np.broadcast_to(np.asarray(keys, dtype=np.uint64)[:, None], shape)
    occurrence = np.broadcast_to(np.asarray(occurrences, dtype=np.uint64).reshape(-1, 1), shape)
    epochs = np.broadcast_to(np.uint64(epoch & _MASK_64), shape)
    words = _philox(block, key, occurrence, epochs, seed & _MASK_64, int(purpose))
    return np.stack(words, axis=-1).reshape(rows, 4 * blocks)[:, :count]


def unit(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) with 53 bits: float64 of the shape of `bits`."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def below(bits: NDArray[np.uint64], bound: NDArray[np.integer] | int) -> NDArray[np.int64]:
    """Whole numbers in [0, bound), bound up to 2**31, by Lemire's multiply and shift (arXiv:1805.10941)."""
    return (((bits >> _SHIFT_32) * np.asarray(bound, dtype=np.uint64)) >> _SHIFT_32).astype(np.int64)


def _philox(
    c0: NDArray[np.uint64],
    c1: NDArray[np.uint64],
    c2: NDArray[np.uint64],
    c3: NDArray[np.uint64],
    key_0: int,
    key_1: int,
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    for round_ in range(_ROUNDS):
        k0 = np.uint64((key_0 + round_ * _WEYL_0) & _MASK_64)
        k1 = np.uint64((key_1 + round_ * _WEYL_1) & _MASK_64)
        high_0, low_0 = _multiply(_MULTIPLIER_0, c0)
        high_1, low_1 = _multiply(_MULTIPLIER_1, c2)
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, low_1, high_0 ^ c3 ^ k1, low_0
    return c0, c1, c2, c3


def _multiply(constant: np.uint64, words: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """High and low halves of the 128-bit product, from four 32-bit ones."""
    a_high, a_low = constant >> _SHIFT_32, constant & _MASK_32
    b_high, b_low = words >> _SHIFT_32, words & _MASK_32
    low = a_low * b_low
    middle = a_high * b_low + (low >> _SHIFT_32)
    middle_2 = a_low * b_high + (middle & _MASK_32)
    high = a_high * b_high + (middle >> _SHIFT_32) + (middle_2 >> _SHIFT_32)
    return high, constant * words


@dataclass(frozen=True)
class SeededDraw:
    """`draw` with a job's seed, for what a training step asks for by name."""

    seed: int

    def __call__(
        self, purpose: Literal["dropout", "mixing"], epoch: int, keys: NDArray[np.uint64], count: int
    ) -> NDArray[np.uint64]:
        """uint64 [len(keys), count], see `draw`."""
        return draw(self.seed, Purpose[purpose.upper()], epoch, keys, count)
