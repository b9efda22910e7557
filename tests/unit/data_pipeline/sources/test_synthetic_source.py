import numpy as np
import torch

from data_pipeline.config import DataConfig
from data_pipeline.listing.samples import Samples, key_of
from data_pipeline.sources.build import evaluation_source, training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from data_pipeline.sources.synthetic_source import synthetic_images

CPU = torch.device("cpu")
DATA = DataConfig(source="synthetic", image_size=33)


def refuse(_):
    raise AssertionError("there are no files to decode")


def samples(count):
    ids = tuple(f"{n}.png" for n in range(count))
    keys = np.array([key_of(name) for name in ids], dtype=np.uint64)
    sizes = np.full((count, 2), 50, dtype=np.int32)
    return Samples("nowhere", ("a", "b"), ids, keys, np.arange(count) % 2, sizes, np.ones(count, bool), ("",) * count)


def images_by_key(source, epoch):
    return {
        key: image
        for step in source.epoch(epoch)
        for microbatch in step.microbatches
        for key, image in zip(microbatch.keys.tolist(), microbatch.images, strict=True)
    }


def test_a_sample_looks_the_same_in_every_epoch_and_unlike_the_others():
    listed = samples(10)
    with training_source(SourceSpec(DATA, refuse), listed, 4, 2, RankShare()) as source:
        first, second = images_by_key(source, 0), images_by_key(source, 1)
    with evaluation_source(SourceSpec(DATA, refuse), listed, 10, RankShare()) as source:
        (batch,) = source.batches()
    assert set(first) == set(second) == set(listed.keys.tolist())
    for key, image in zip(listed.keys.tolist(), batch.images, strict=True):
        assert torch.equal(first[key], image)
        assert torch.equal(second[key], image)
    assert len({image.numpy().tobytes() for image in first.values()}) == 10
    assert batch.images.shape == (10, 3, 33, 33)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_the_class_can_be_learnt_from_other_images_of_it():
    listed = samples(200)
    images = synthetic_images(listed.keys, listed.labels, (16, 16)).reshape(200, -1)
    means = np.stack([images[:100][listed.labels[:100] == label].mean(axis=0) for label in (0, 1)])
    distances = ((images[100:, None] - means) ** 2).sum(axis=2)
    np.testing.assert_array_equal(distances.argmin(axis=1), listed.labels[100:])


def test_values_are_fixed_for_ever():
    image = synthetic_images(np.array([1], dtype=np.uint64), np.array([0], dtype=np.int64), (16, 16))
    np.testing.assert_allclose(image[0, 0, 0], [-0.280835, 0.476913, 0.482055], atol=1e-6)


def test_images_need_not_be_square():
    keys, labels = np.arange(3, dtype=np.uint64), np.array([0, 1, 0])
    images = synthetic_images(keys, labels, (24, 40))
    assert images.shape == (3, 24, 40, 3)
    assert np.array_equal(images[:, ::3, ::5], synthetic_images(keys, labels, (16, 16))[:, ::2, ::2])
