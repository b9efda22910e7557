"""DALI decoding and augmenting on the GPU shows the views that the reference defines."""

import numpy as np
import pytest
import torch

from data_pipeline.config import AugmentationConfig, DataConfig
from data_pipeline.sources.build import evaluation_source, training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from data_pipeline.views.augmentation import evaluation_views

pytest.importorskip("nvidia.dali", reason="nvidia.dali is not installed")
pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
EVERYTHING = AugmentationConfig(
    vertical_flip=0.5, quarter_turns=True, brightness=0.4, contrast=0.4, saturation=0.4, erase=0.5
)
ALONE = AugmentationConfig(window="whole", horizontal_flip=0.0)
AUGMENTATIONS = {
    "default": AugmentationConfig(),
    "everything": EVERYTHING,
    "everything, letterboxed": EVERYTHING.model_copy(update={"window": "letterbox"}),
    **{
        f"{name}={value}": ALONE.model_copy(update={name: value})
        for name, value in {"horizontal_flip": 0.5, "quarter_turns": True, "saturation": 0.5, "erase": 0.7}.items()
    },
}
SMALL = DataConfig(image_size=32)


def by_reference(data):
    return data.model_copy(update={"source": "reference"})


def train(data, samples, decode, device, augmentation=EVERYTHING, rank=0, world_size=1):
    return training_source(
        SourceSpec(data, decode, augmentation, 1, 2), samples, 8, 4, RankShare(rank, world_size, device)
    )


def all_images(source, epoch=0):
    """Images and keys of an epoch."""
    made = [m for step in source.epoch(epoch) for m in step.microbatches]
    return torch.cat([m.images for m in made]), np.concatenate([m.keys for m in made])


def judged(data, samples, decode, device):
    """All images of a split in its order."""
    with evaluation_source(SourceSpec(data, decode, threads=2), samples, 8, RankShare(device=device)) as source:
        return torch.cat([batch.images for batch in source.batches()])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_training_views_are_the_references(gpu, photographs, decode, assert_close, name):
    data = DataConfig(image_size=112)
    with (
        train(data, photographs, decode, gpu, AUGMENTATIONS[name]) as source,
        train(by_reference(data), photographs, decode, CPU, AUGMENTATIONS[name]) as reference,
    ):
        images, keys = all_images(source)
        expected, expected_keys = all_images(reference)
    np.testing.assert_array_equal(keys, expected_keys)
    assert_close(images.cpu(), expected, data)


@pytest.mark.parametrize("resize", ["whole", "letterbox", "center_crop"])
@pytest.mark.parametrize("size", [64, 224])
def test_evaluation_views_are_the_references(gpu, photographs, decode, assert_close, resize, size):
    data = DataConfig(image_size=size, resize=resize, crop_fraction=0.8)
    images = judged(data, photographs, decode, gpu)
    assert_close(images.cpu(), judged(by_reference(data), photographs, decode, CPU), data)


def test_every_kind_of_file_is_seen_alike(gpu, samples_in, image_files, tmp_path, decode, assert_close):
    photo = image_files.photo(90, 60)
    files = {f"orientation {n}.jpg": image_files.turned(photo, "JPEG", n) for n in range(1, 9)}
    files |= {f"{mode}.{kind}": image_files.encode(photo, kind, mode) for mode, kind in (
        ("L", "JPEG"), ("CMYK", "JPEG"), ("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("RGB", "BMP"), ("RGB", "TIFF"),
    )}  # fmt: skip
    files["progressive.jpg"] = image_files.encode(photo, "JPEG", progressive=True)
    files["16 bit.png"] = image_files.png((photo.astype(np.uint16) << 4) | 7, 16, 2)
    for width, height in ((1, 1), (2, 1), (16, 16), (240, 60), (7, 90)):
        files[f"{width}x{height}.jpg"] = image_files.encode(image_files.photo(width, height), "JPEG")
    samples = samples_in(tmp_path, {name.encode(): data for name, data in files.items()})
    data = DataConfig(image_size=64)
    assert (evaluation_views(data, samples.sizes).inner == 64).all()
    images, expected = judged(data, samples, decode, gpu).cpu(), judged(by_reference(data), samples, decode, CPU)
    different = []
    for row, name in enumerate(samples.sample_ids):
        try:
            assert_close(images[row : row + 1], expected[row : row + 1], data)
        except AssertionError as error:
            different.append(f"{name}: {error}")
    assert not different


def test_images_labels_and_keys_are_where_the_model_is(gpu, small_photos, decode):
    with train(SMALL, small_photos, decode, gpu) as source:
        for step in source.epoch(0):
            for m in step.microbatches:
                assert m.images.device == m.labels.device == gpu
                assert m.images.dtype == torch.float32
                assert m.images.shape[1:] == (3, 32, 32)
                assert m.images.is_contiguous(memory_format=torch.channels_last)
    images = judged(SMALL, small_photos, decode, gpu)
    assert images.device == gpu
    assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("first_step", range(3))
def test_microbatches_after_a_restart_are_those_of_the_undisturbed_run(gpu, small_photos, decode, first_step):
    with train(SMALL, small_photos, decode, gpu) as source:
        expected = {(s.index, m.index): m.images for s in source.epoch(1) for m in s.microbatches}
    with train(SMALL, small_photos, decode, gpu) as source:
        found = {(s.index, m.index): m.images for s in source.epoch(1, first_step) for m in s.microbatches}
    assert found.keys() == {place for place in expected if place[0] >= first_step}
    assert found
    assert all(torch.equal(images, expected[place]) for place, images in found.items())


def test_microbatches_do_not_depend_on_the_worker_count(gpu, small_photos, decode):
    with train(SMALL, small_photos, decode, gpu) as source:
        expected = {(s.index, m.index): m.images for s in source.epoch(0) for m in s.microbatches}
    found = {}
    for rank in range(2):
        with train(SMALL, small_photos, decode, gpu, rank=rank, world_size=2) as source:
            found |= {(s.index, m.index): m.images for s in source.epoch(0) for m in s.microbatches}
    assert found.keys() == expected.keys()
    assert all(torch.equal(images, expected[place]) for place, images in found.items())


def test_images_stay_as_they_were_while_they_are_held(gpu, small_photos, decode):
    """DALI's memory on the GPU is used again: what training holds must be a copy, complete when it is handed over."""
    with train(SMALL, small_photos, decode, gpu) as source:
        held = [(m.images, m.images.clone()) for e in range(5) for s in source.epoch(e) for m in s.microbatches]
        assert all(torch.equal(images, copy) for images, copy in held)
    assert all(torch.equal(images, copy) for images, copy in held)
    assert not torch.equal(held[0][0], held[1][0])
