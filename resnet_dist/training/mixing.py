"""Mixing of neighbouring samples: pairs (2k, 2k + 1) of the global batch, with a factor keyed by the pair.

Mixup blends the two whole images, CutMix exchanges a box between them. Microbatches have an even size, so a pair never
spans two of them and every worker count mixes alike; the last sample of a microbatch of odd size stays as it is.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

_TRIES = 5
_GAMMA_WORDS = 3 * _TRIES + 1
_BETA_WORDS = 2 * _GAMMA_WORDS
_KIND, _CENTRE_Y, _CENTRE_X = range(_BETA_WORDS, _BETA_WORDS + 3)
MIXING_WORDS = _BETA_WORDS + 3
"""64-bit words of randomness a pair uses."""


@dataclass(frozen=True)
class Mix:
    """How each of B samples is mixed: factor * itself + (1 - factor) * its partner."""

    partner: torch.Tensor
    """int64 [B] position of the partner in the microbatch; a sample without one is its own."""
    factor: torch.Tensor
    """float32 [B] in 0..1: the sample's own share, of its pixels or of their values, and of its label."""
    box: torch.Tensor | None = None
    """int64 [B, 4]: top, bottom, left, right (ends excluded) of what comes from the partner, unblended; an empty box:
    blended by the factor. None: all are."""

    def images(self, images: torch.Tensor) -> torch.Tensor:
        """Mixed images [B, 3, H, W], same shape, dtype and memory format; does not wait for the device."""
        own = self.factor.to(images.dtype).reshape(-1, 1, 1, 1)
        if self.box is not None:
            cut, inside = _pixels(self.box, images.shape[2], images.shape[3])
            # Weights of exactly 0 and 1 take a pixel of either image as it is.
            own = torch.where(cut, (~inside).to(images.dtype), own)
        return torch.lerp(images[self.partner], images, own)


def _pixels(box: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """bool [B, 1, 1, 1]: whose box is not empty, and bool [B, 1, height, width]: which pixels are in it."""
    top, bottom, left, right = box.reshape(-1, 4, 1, 1, 1).unbind(1)
    rows = torch.arange(height, device=box.device).reshape(-1, 1)
    columns = torch.arange(width, device=box.device)
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    return (top < bottom) & (left < right), inside


def pair_keys(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """uint64 [B // 2]: a key for each pair, from the keys [B] of its two samples."""
    first, second = keys[0 : len(keys) // 2 * 2 : 2], keys[1::2]
    return first ^ ((second << np.uint64(1)) | (second >> np.uint64(63)))


def mix_for(
    mixup_alpha: float,
    cutmix_alpha: float,
    bits: NDArray[np.uint64],
    samples: int,
    height: int,
    width: int,
    device: torch.device,
) -> Mix | None:
    """How a microbatch of `samples` images of `height` x `width` is mixed; None with both alphas 0.

    Mixup (arXiv:1710.09412) has its factor, CutMix (arXiv:1905.04899) the share that it keeps before its box is
    clipped to the image, from Beta(alpha, alpha); with both on a pair has one of them, equally likely.
    `bits`: uint64 [samples // 2, MIXING_WORDS], the pairs' own.
    """
    if not cutmix_alpha:
        return mixup(mixup_alpha, bits, samples, device) if mixup_alpha else None
    box = _boxes(_beta(cutmix_alpha, bits), bits, height, width)
    # The label's share is that of the pixels, so an image cut at the border counts what is there.
    factor = 1.0 - (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2]) / (height * width)
    if mixup_alpha:
        cut = bits[:, _KIND] >> np.uint64(63) == 1
        factor = np.where(cut, factor, _beta(mixup_alpha, bits))
        box = np.where(cut[:, None], box, 0)
    return _mix(factor, box, samples, device)


def mixup(alpha: float, bits: NDArray[np.uint64], samples: int, device: torch.device) -> Mix:
    """Mixup alone, with an alpha above 0; `bits` as in `mix_for`."""
    return _mix(_beta(alpha, bits), None, samples, device)


def _mix(factor: NDArray[np.float64], box: NDArray[np.int64] | None, samples: int, device: torch.device) -> Mix:
    """From the factor [samples // 2] and the box [samples // 2, 4] of each pair, the same for both of it."""
    paired = samples // 2 * 2
    partner = np.arange(samples) ^ 1
    factors = np.ones(samples, dtype=np.float32)
    factors[:paired] = np.repeat(factor, 2)
    boxes = np.zeros((samples, 4), dtype=np.int64)
    if samples % 2:
        partner[-1] = samples - 1
    if box is not None:
        boxes[:paired] = np.repeat(box, 2, axis=0)
    # Copies from pageable memory are staged before the call returns; a blocking one would wait for all earlier work.
    return Mix(
        partner=torch.from_numpy(partner).to(device, torch.int64, non_blocking=True),
        factor=torch.from_numpy(factors).to(device, non_blocking=True),
        box=None if box is None else torch.from_numpy(boxes).to(device, non_blocking=True),
    )


def _boxes(kept: NDArray[np.float64], bits: NDArray[np.uint64], height: int, width: int) -> NDArray[np.int64]:
    """int64 [pairs, 4]: boxes of the image's shape and, before they are clipped, the share 1 - kept of its area."""
    side = np.sqrt(1.0 - kept)

    def span(size: int, word: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        length = np.rint(side * size).astype(np.int64)
        centre = ((bits[:, word] >> np.uint64(32)) * np.uint64(size) >> np.uint64(32)).astype(np.int64)
        first = centre - length // 2
        return np.maximum(first, 0), np.minimum(first + length, size)

    return np.stack([*span(height, _CENTRE_Y), *span(width, _CENTRE_X)], axis=1)


def _beta(alpha: float, bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Beta(alpha, alpha) as a ratio of two gammas, each from half of the first words."""
    numbers = np.maximum((bits[:, :_BETA_WORDS] >> np.uint64(11)).astype(np.float64) * 2.0**-53, 2.0**-54)
    log_first = _log_gamma_variate(alpha, numbers[:, :_GAMMA_WORDS])
    log_second = _log_gamma_variate(alpha, numbers[:, _GAMMA_WORDS:])
    # In logarithms: with a small alpha both variates may lie below the smallest float.
    return 1.0 / (1.0 + np.exp(np.clip(log_second - log_first, -700.0, 700.0)))


def _log_gamma_variate(alpha: float, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of a Gamma(alpha) variate a row (Marsaglia and Tsang, "A simple method for generating gamma
    variables", 2000) with their boost for alpha below one.

    The method tries until a proposal is accepted, each with more than 0.95; here a fixed number of words serves
    five tries, and in the one case of three million in which none is accepted the last proposal is taken.
    """
    shape = alpha + 1.0 - 1.0 / 3.0
    scale = 1.0 / (9.0 * shape) ** 0.5
    accepted = np.zeros(len(numbers), dtype=np.bool_)
    result = np.zeros(len(numbers))
    for first in range(0, 3 * _TRIES, 3):
        uniform, angle, accept = (numbers[:, first + i] for i in range(3))
        normal = np.sqrt(-2.0 * np.log(uniform)) * np.cos(2.0 * np.pi * angle)
        cube = np.maximum(1.0 + scale * normal, 1e-3) ** 3
        good = np.log(accept) < 0.5 * normal**2 + shape * (1.0 - cube + np.log(cube))
        result = np.where(accepted, result, np.log(shape * cube))
        accepted |= good
    return result + np.log(numbers[:, -1]) / alpha
