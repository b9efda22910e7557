"""Keyed dropout before the linear head."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.views.randomness import Purpose, draw
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from resnet_dist.training.dropout import keep_mask, words_needed

torch.set_num_threads(1)


def bits_of(keys: list[int], features: int, seed: int = 0, epoch: int = 0) -> np.ndarray:
    return draw(seed, Purpose.DROPOUT, epoch, np.array(keys, dtype=np.uint64), words_needed(features))


@given(features=st.integers(1, 70), probability=st.floats(0.0, 1.0, exclude_max=True), seed=st.integers(0, 2**64 - 1))
def test_values_are_zero_or_the_inverse_share(features: int, probability: float, seed: int) -> None:
    mask = keep_mask(bits_of([1, 2, 3], features, seed), features, probability)
    assert mask.shape == (3, features)
    assert mask.dtype == torch.float32
    dropped = min(round(probability * 65536), 65535)
    assert set(mask.unique().tolist()) <= {0.0, float(np.float32(65536 / (65536 - dropped)))}
    assert dropped > 0 or (mask == 1.0).all()


@pytest.mark.parametrize("probability", [0.1, 0.25, 0.5, 0.9])
def test_unbiased_over_samples_and_features(probability: float) -> None:
    samples, features = 2000, 512
    mask = keep_mask(bits_of(list(range(samples)), features), features, probability)
    deviation = (probability / (1.0 - probability)) ** 0.5  # of one value around its mean of 1
    assert abs(float(mask.mean()) - 1.0) < 5 * deviation / (samples * features) ** 0.5
    for axis, count in ((0, samples), (1, features)):
        assert float((mask.mean(axis) - 1.0).abs().max()) < 6 * deviation / count**0.5
    # The four lanes of a word are independent of each other.
    lanes = mask.reshape(samples, -1, 4).flatten(0, 1) > 0
    correlation = np.corrcoef(lanes.numpy().T)
    assert np.abs(correlation - np.eye(4)).max() < 5 / (samples * features / 4) ** 0.5


@given(
    keys=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12, unique=True),
    features=st.integers(1, 40),
    data=st.data(),
)
def test_a_samples_mask_does_not_depend_on_its_batch(keys: list[int], features: int, data: st.DataObject) -> None:
    whole = keep_mask(bits_of(keys, features), features, 0.4)
    chosen = data.draw(st.lists(st.integers(0, len(keys) - 1), min_size=1))
    part = keep_mask(bits_of([keys[index] for index in chosen], features), features, 0.4)
    assert torch.equal(part, whole[chosen])


def test_key_epoch_and_seed_decide() -> None:
    mask = keep_mask(bits_of([7, 8], 512), 512, 0.5)
    assert torch.equal(mask, keep_mask(bits_of([7, 8], 512), 512, 0.5))
    assert not torch.equal(mask[0], mask[1])
    assert not torch.equal(mask, keep_mask(bits_of([7, 8], 512, epoch=1), 512, 0.5))
    assert not torch.equal(mask, keep_mask(bits_of([7, 8], 512, seed=1), 512, 0.5))


def test_a_words_lanes_go_from_low_to_high_bits() -> None:
    bits = np.array([[0xFFFF_0000_FFFF_0000, 0x0000_0000_0000_8000]], dtype=np.uint64)
    assert keep_mask(bits, 6, 0.5).tolist() == [[0.0, 2.0, 0.0, 2.0, 2.0, 0.0]]


def test_too_few_words_are_refused() -> None:
    with pytest.raises(ValueError, match="2 words a sample for 9 features; draw 3"):
        keep_mask(np.zeros((1, 2), dtype=np.uint64), 9, 0.5)


def test_gradients_pass_through_kept_features_only() -> None:
    model = build_model(Structure("resnet18"), 3, 0.5, seed=0).eval()
    keep = keep_mask(bits_of([5], 512), 512, 0.5)
    model(torch.ones(1, 3, 32, 32), keep).sum().backward()
    gradient = model.fc.weight.grad
    assert gradient is not None
    assert not gradient[:, keep[0] == 0].any()
    assert gradient[:, keep[0] > 0].any()
