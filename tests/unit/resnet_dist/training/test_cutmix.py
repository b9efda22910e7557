"""CutMix's boxes, alone and beside mixup."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from resnet_dist.training.mixing import MIXING_WORDS, Mix, mix_for, mixup

CPU = torch.device("cpu")
SIZES = st.integers(1, 40)
ALPHAS = st.floats(0.05, 4.0)
SEEDS = st.integers(0, 2**31)


def bits_of(seed: int, pairs: int, words: int = MIXING_WORDS) -> NDArray[np.uint64]:
    print("seed", seed)
    return np.random.default_rng(seed).integers(0, 2**64, (pairs, words), dtype=np.uint64)


def made(mixup_alpha: float, cutmix_alpha: float, bits: NDArray[np.uint64], *shape: int) -> tuple[Mix, torch.Tensor]:
    """A mix with boxes, which are given, too. `shape`: samples, height, width."""
    mix = mix_for(mixup_alpha, cutmix_alpha, bits, *shape, CPU)
    assert mix is not None
    assert mix.box is not None
    return mix, mix.box


def pictures(*shape: int, **options: Any) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), **options)


@given(SEEDS, ALPHAS, st.integers(1, 9), SIZES, SIZES)
def test_boxes_lie_inside_and_both_of_a_pair_keep_the_share_of_pixels_that_the_factor_says(
    seed: int, alpha: float, samples: int, height: int, width: int
) -> None:
    mix, box = made(0.0, alpha, bits_of(seed, samples // 2), samples, height, width)
    own = torch.arange(samples, dtype=torch.float32).reshape(-1, 1, 1, 1).expand(-1, 3, height, width)
    after = mix.images(own)
    for sample, (top, bottom, left, right) in enumerate(box.tolist()):
        assert 0 <= top <= bottom <= height
        assert 0 <= left <= right <= width
        expected = own[sample].clone()
        expected[:, top:bottom, left:right] = float(mix.partner[sample])
        assert torch.equal(after[sample], expected)
        kept = (height * width - (bottom - top) * (right - left)) / (height * width)
        assert float(mix.factor[sample]) == pytest.approx(kept, abs=1e-7)
        assert int(mix.partner[int(mix.partner[sample])]) == sample
        assert torch.equal(box[int(mix.partner[sample])], box[sample])
    if samples % 2:
        assert int(mix.partner[-1]) == samples - 1
        assert float(mix.factor[-1]) == 1.0


@given(SEEDS, st.sampled_from([(0.0, 1.0), (0.3, 1.0)]), st.integers(1, 4))
def test_the_cut_into_microbatches_changes_nothing(seed: int, alphas: tuple[float, float], first: int) -> None:
    bits, images = bits_of(seed, 5), pictures(10, 3, 9, 7)
    whole, _ = made(*alphas, bits, 10, 9, 7)
    parts = [(bits[:first], images[: 2 * first]), (bits[first:], images[2 * first :])]
    mixes = [made(*alphas, own, len(some), 9, 7)[0] for own, some in parts]
    cut = torch.cat([mix.images(some) for mix, (_, some) in zip(mixes, parts, strict=True)])
    assert torch.equal(cut, whole.images(images))
    assert torch.equal(torch.cat([mix.factor for mix in mixes]), whole.factor)


@given(SEEDS, ALPHAS, SIZES, SIZES)
def test_boxes_have_the_images_shape_the_drawn_area_and_a_centre_that_is_any_pixel(
    seed: int, alpha: float, height: int, width: int
) -> None:
    bits = bits_of(seed, 50)
    _, box = made(0.0, alpha, bits, 100, height, width)
    side = np.sqrt(1.0 - mixup(alpha, bits, 100, CPU).factor[::2].double().numpy())
    for place, size, word in ((0, height, 33), (2, width, 34)):
        centre = np.array([int(number) * size >> 64 for number in bits[:, word]])
        first, last = box[::2, place].numpy(), box[::2, place + 1].numpy()
        # Half a pixel of rounding at each end.
        assert (np.abs(first - np.maximum(centre - side * size / 2, 0)) <= 1.0 + 1e-3).all()
        assert (np.abs(last - np.minimum(centre + side * size / 2, size)) <= 1.0 + 1e-3).all()
        assert ((first <= centre) & (centre < last) | (first == last)).all()


def test_without_cutmix_the_factors_are_those_of_mixup_whatever_words_follow() -> None:
    bits = bits_of(1, 5)
    mix, older = mix_for(0.2, 0.0, bits, 11, 8, 8, CPU), mixup(0.2, bits[:, :32], 11, CPU)
    assert mix is not None
    assert mix.box is None
    assert torch.equal(mix.factor, older.factor)
    assert torch.equal(mix.partner, older.partner)
    images = pictures(11, 3, 8, 8)
    expected = torch.lerp(images[older.partner], images, older.factor.reshape(-1, 1, 1, 1))
    assert torch.equal(mix.images(images), expected)


def test_with_both_on_half_of_the_pairs_are_cut_and_half_blended_as_each_would_be_alone() -> None:
    bits, images = bits_of(2, 2000), pictures(4000, 3, 4, 5)
    both, box = made(0.3, 1.0, bits, 4000, 4, 5)
    blended, (cut, boxes) = mixup(0.3, bits, 4000, CPU), made(0.0, 1.0, bits, 4000, 4, 5)
    drawn = torch.from_numpy(np.repeat(bits[:, 32] >= 2**63, 2))
    assert float(drawn.double().mean()) == pytest.approx(0.5, abs=0.04)
    assert torch.equal(both.factor, torch.where(drawn, cut.factor, blended.factor))
    assert torch.equal(box, torch.where(drawn[:, None], boxes, 0))
    # A drawn box may be too small for a pixel; its factor is then 1, and so nothing is blended either.
    choice = drawn[:, None, None, None]
    assert torch.equal(both.images(images), torch.where(choice, cut.images(images), blended.images(images)))


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("alphas", [(0.3, 0.0), (0.0, 1.0), (0.3, 1.0)])
def test_memory_format_and_dtype_stay(
    memory: torch.memory_format, dtype: torch.dtype, alphas: tuple[float, float]
) -> None:
    images = pictures(6, 3, 16, 12).to(dtype).contiguous(memory_format=memory)
    mix = mix_for(*alphas, bits_of(3, 3), 6, 16, 12, CPU)
    assert mix is not None
    after = mix.images(images)
    assert after.is_contiguous(memory_format=memory)
    assert after.dtype == dtype
    assert not torch.equal(after, images)


def test_both_off_is_no_mix_and_a_lone_sample_stays_itself() -> None:
    assert mix_for(0.0, 0.0, bits_of(4, 2), 4, 8, 8, CPU) is None
    image = pictures(1, 3, 8, 8)
    for alphas in ((0.0, 1.0), (0.5, 0.0), (0.5, 1.0)):
        mix = mix_for(*alphas, bits_of(4, 0), 1, 8, 8, CPU)
        assert mix is not None
        assert torch.equal(mix.images(image), image)
        assert mix.factor.tolist() == [1.0]
