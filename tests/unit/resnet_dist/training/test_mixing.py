"""Mixing: who is mixed with whom, by how much, and that neither depends on how a global batch is cut."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from data_pipeline.views.order import EpochCut
from data_pipeline.views.randomness import Purpose, draw
from resnet_dist.training.mixing import MIXING_WORDS, Mix, mixup, pair_keys

BETA_WORDS = 32
"""Of a pair's words those that make its factor, half of them for each gamma."""

CPU = torch.device("cpu")
alphas = st.sampled_from([0.05, 0.2, 0.4, 1.0, 4.0])
keys_of_any = st.lists(st.integers(0, 2**64 - 1), max_size=13, unique=True).map(
    lambda keys: np.array(keys, dtype=np.uint64)
)


def mix_of(alpha: float, keys: NDArray[np.uint64], seed: int = 0, epoch: int = 0) -> Mix:
    bits = draw(seed, Purpose.MIXING, epoch, pair_keys(keys), MIXING_WORDS)
    return mixup(alpha, bits, len(keys), CPU)


def some_keys(count: int, seed: int = 0) -> NDArray[np.uint64]:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


@given(alpha=alphas, keys=keys_of_any)
def test_pairs_are_neighbours_and_share_a_factor(alpha: float, keys: NDArray[np.uint64]) -> None:
    mix = mix_of(alpha, keys)
    pairs = len(keys) // 2
    assert (mix.partner.dtype, mix.factor.dtype) == (torch.int64, torch.float32)
    assert mix.partner.tolist()[: 2 * pairs] == [place for k in range(pairs) for place in (2 * k + 1, 2 * k)]
    assert torch.equal(mix.factor[0 : 2 * pairs : 2], mix.factor[1 : 2 * pairs : 2])
    assert bool(((mix.factor >= 0.0) & (mix.factor <= 1.0)).all())
    if len(keys) % 2:  # a lone last sample
        assert int(mix.partner[-1]) == len(keys) - 1
        assert float(mix.factor[-1]) == 1.0


def test_no_samples_and_one_sample_are_no_pairs() -> None:
    assert len(mix_of(0.2, some_keys(0)).factor) == 0
    alone = mix_of(0.2, some_keys(1))
    assert (alone.partner.tolist(), alone.factor.tolist()) == ([0], [1.0])


@given(samples=st.integers(2, 70), whole=st.integers(1, 4), size=st.sampled_from([2, 4, 6]), alpha=alphas)
def test_mixing_does_not_depend_on_the_cut_into_microbatches(samples: int, whole: int, size: int, alpha: float) -> None:
    keys = some_keys(samples)
    cut = EpochCut(samples, global_batch_size=whole * size, microbatch_size=size)
    uncut = mix_of(alpha, keys)
    seen = 0
    for step in range(cut.steps):
        for each in cut.step(step):
            mix = mix_of(alpha, keys[each.start : each.stop])
            assert torch.equal(mix.partner + each.start, uncut.partner[each.start : each.stop])
            assert torch.equal(mix.factor, uncut.factor[each.start : each.stop])
            seen += each.size
    assert seen == samples


def test_a_pairs_factor_is_its_own() -> None:
    keys = some_keys(40)
    factor = mix_of(0.4, keys).factor[::2]
    assert len(factor.unique()) == 20  # every pair has another one
    for other in (mix_of(0.4, keys, seed=1), mix_of(0.4, keys, epoch=1)):
        assert not bool((other.factor[::2] == factor).any())
    moved = np.concatenate([keys[10:], keys[:10]])
    assert torch.equal(mix_of(0.4, moved).factor, mix_of(0.4, keys).factor.roll(-10))
    changed = keys.copy()
    changed[7] ^= np.uint64(1)
    differing = (mix_of(0.4, changed).factor != mix_of(0.4, keys).factor).nonzero().flatten().tolist()
    assert differing == [6, 7]


@given(pair=st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)))
def test_a_pairs_key_depends_on_every_bit_of_both(pair: tuple[int, int]) -> None:
    key = pair_keys(np.array(pair, dtype=np.uint64))
    for place in (0, 1):
        for bit in range(64):
            other = np.array(pair, dtype=np.uint64)
            other[place] ^= np.uint64(1 << bit)
            assert pair_keys(other) != key


def test_swapped_and_regrouped_samples_are_other_pairs() -> None:
    keys = some_keys(12)
    together = {int(pair_keys(np.array([a, b]))[0]) for a in keys for b in keys if a != b}
    assert len(together) == 12 * 11


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.4, 0.8, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("seed", [0, 20240607])
def test_factors_are_distributed_as_beta(alpha: float, seed: int) -> None:
    """Kolmogorov and Smirnov's test, at points that float32 tells apart: near 1 there are few of them."""
    pairs = 40_000
    factors = np.sort(mix_of(alpha, some_keys(2 * pairs, seed), seed).factor[::2].double().numpy())
    points = 1.0 / (1.0 + np.exp(-np.linspace(-60.0, 11.0, 2000)))
    found = np.searchsorted(factors, points, side="right") / pairs
    distance = float(np.abs(found - stats.beta.cdf(points, alpha, alpha)).max())
    chance = float(stats.kstwobign.sf(distance * pairs**0.5))
    print(f"alpha {alpha}, seed {seed}: distance {distance:.5f}, p {chance:.4f}")
    assert chance > 1e-3


def test_factors_of_different_pairs_are_independent() -> None:
    seed = 3
    factors = mix_of(1.0, some_keys(40_000, seed), seed).factor[::2].double().numpy()
    correlation = stats.pearsonr(factors[:-1], factors[1:])
    print(f"seed {seed}: {correlation}")
    assert correlation.pvalue > 1e-3


@given(alpha=alphas, seed=st.integers(0, 2**63 - 1))
def test_the_two_gammas_use_words_of_their_own(alpha: float, seed: int) -> None:
    """With their words exchanged the samples exchange their shares."""
    bits = draw(seed, Purpose.MIXING, 0, some_keys(8), MIXING_WORDS)
    exchanged = np.roll(bits[:, :BETA_WORDS], BETA_WORDS // 2, axis=1)
    factors = [mixup(alpha, each, 16, CPU).factor for each in (bits, exchanged)]
    torch.testing.assert_close(factors[0] + factors[1], torch.ones(16), rtol=0.0, atol=1e-6)


@given(alpha=st.floats(1e-3, 4.0), seed=st.integers(0, 2**63 - 1))
def test_no_factor_is_ever_nan(alpha: float, seed: int) -> None:
    factor = mix_of(alpha, some_keys(64), seed).factor
    assert bool(((factor >= 0.0) & (factor <= 1.0)).all())


@pytest.mark.parametrize("bits", [0, 2**64 - 1])
@pytest.mark.parametrize("alpha", [1e-3, 0.2, 1.0, 4.0])
def test_the_most_extreme_bits_still_give_a_factor(bits: int, alpha: float) -> None:
    words = np.full((3, MIXING_WORDS), bits, dtype=np.uint64)
    half = words.copy()
    half[:, BETA_WORDS // 2 : BETA_WORDS] = ~half[:, BETA_WORDS // 2 : BETA_WORDS]
    for each in (words, half, ~half):
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            factor = mixup(alpha, each, 6, CPU).factor
        assert bool(((factor >= 0.0) & (factor <= 1.0)).all())


@given(samples=st.integers(1, 7), seed=st.integers(0, 1000))
def test_mixed_images_are_the_weighted_mean_of_both(samples: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn((samples, 3, 5, 4), generator=generator).to(memory_format=torch.channels_last)
    before = images.clone()
    mix = mix_of(0.4, some_keys(samples, seed), seed)
    mixed = mix.images(images)
    for place in range(samples):
        share = float(mix.factor[place])
        expected = share * images[place].double() + (1.0 - share) * images[mix.partner[place]].double()
        torch.testing.assert_close(mixed[place].double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(images, before)
    if samples % 2:
        assert torch.equal(mixed[-1], images[-1])  # to the bit


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_mixed_images_keep_dtype_and_memory_format(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    images = torch.randn((6, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    images = images.to(dtype).contiguous(memory_format=memory_format)
    mixed = mix_of(0.4, some_keys(6)).images(images)
    assert (mixed.shape, mixed.dtype) == (images.shape, dtype)
    assert mixed.is_contiguous(memory_format=memory_format)
