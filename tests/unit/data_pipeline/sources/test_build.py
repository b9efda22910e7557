import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from data_pipeline.config import DataConfig
from data_pipeline.errors import DataError
from data_pipeline.sources.build import evaluation_source, training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from data_pipeline.views.order import epoch_order

CPU = torch.device("cpu")


def train(data, samples, decode, global_batch_size=8):
    return training_source(SourceSpec(data, decode), samples, global_batch_size, 4, RankShare())


@pytest.mark.parametrize("backend", ["dali", "reference", "synthetic"])
def test_every_backend_gives_the_same_samples_in_the_same_batches(small_photos, decode, backend):
    with train(DataConfig(source="synthetic", image_size=16), small_photos, decode) as source:
        expected = [
            (step.index, step.samples, step.microbatch_count, m.index, m.keys.tolist(), m.labels.tolist())
            for step in source.epoch(3)
            for m in step.microbatches
        ]
    with train(DataConfig(source=backend, image_size=16), small_photos, decode) as source:
        got = []
        for step in source.epoch(3):
            for m in step.microbatches:
                assert m.images.shape == (len(m.keys), 3, 16, 16)
                assert m.images.dtype == torch.float32
                assert m.labels.dtype == torch.int64
                got.append(
                    (step.index, step.samples, step.microbatch_count, m.index, m.keys.tolist(), m.labels.tolist())
                )
    assert got == expected
    assert source.steps_per_epoch == 3


def test_too_few_images_for_a_batch_are_refused(small_photos, decode):
    data = DataConfig(source="reference", drop_last=True)
    with pytest.raises(DataError, match=r"21 training images.*batch of 32.*drop_last"):
        train(data, small_photos, decode, global_batch_size=32)
    with pytest.raises(DataError, match="0 training images"):
        train(DataConfig(source="reference"), small_photos.select(np.arange(0)), decode)


def test_an_empty_split_has_no_batches(small_photos, decode):
    for backend in ("dali", "reference", "synthetic"):
        data = DataConfig(source=backend, image_size=16)
        with evaluation_source(SourceSpec(data, decode), small_photos.select(np.arange(0)), 8, RankShare()) as source:
            assert source.samples == 0
            assert list(source.batches()) == []


@pytest.mark.parametrize("backend", ["dali", "reference"])
def test_a_strip_that_a_centre_crop_would_blow_up_is_refused(samples_in, image_files, tmp_path, decode, backend):
    strip = image_files.encode(Image.new("RGB", (2000, 1)), "PNG")
    samples = samples_in(tmp_path, {b"strip.png": strip})
    data = DataConfig(source=backend, resize="center_crop", max_pixels=10**7)
    with pytest.raises(DataError, match=r"'strip.png' is 2000x1 pixels.*512000x256.*10000000.*letterbox"):
        evaluation_source(SourceSpec(data, decode), samples, 4, RankShare())
    letterbox = data.model_copy(update={"resize": "letterbox"})
    with evaluation_source(SourceSpec(letterbox, decode), samples, 4, RankShare()) as source:
        assert len(list(source.batches())) == 1


def test_without_dali_the_message_names_the_remedy_and_the_reference_works():
    program = """
        import sys
        sys.modules["nvidia.dali"] = None  # as if it were not installed
        import numpy as np, torch
        from data_pipeline.sources.build import evaluation_source
        from data_pipeline.sources.spec import RankShare, SourceSpec
        from data_pipeline.config import DataConfig
        from data_pipeline.errors import DataError
        from data_pipeline.listing.samples import Samples
        none = Samples("", ("a",), (), np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros((0, 2), np.int32),
                       np.zeros(0, bool), ())
        def source(backend):
            return evaluation_source(SourceSpec(DataConfig(source=backend), None), none, 4, RankShare())
        source("reference")
        source("synthetic")
        try:
            source("dali")
        except DataError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True, timeout=120
    )
    assert 'data.source="dali"' in done.stdout
    assert "resnet-dist[train]" in done.stdout
    assert 'data.source="reference"' in done.stdout


# Balanced sampling


def visited(samples, decode, world_size=1, first_step=0, epoch=2, **settings):
    """(step, index) -> keys and labels of each microbatch, over all ranks."""
    data = DataConfig(source="synthetic", image_size=16, **settings)
    found = {}
    for rank in range(world_size):
        source = training_source(SourceSpec(data, decode, seed=5), samples, 8, 4, RankShare(rank, world_size))
        with source:
            for step in source.epoch(epoch, first_step):
                found |= {(step.index, m.index): (m.keys.tolist(), m.labels.tolist()) for m in step.microbatches}
    return found


@pytest.fixture
def uneven(small_photos):
    """21 images of three classes: 15, 4 and 2."""
    return replace(small_photos, labels=np.repeat(np.arange(3), [15, 4, 2]))


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_balanced_epochs_are_the_same_at_any_worker_count_and_restart(uneven, decode, world_size):
    whole = visited(uneven, decode, sampling="balanced")
    for first_step in range(4):
        expected = {place: held for place, held in whole.items() if place[0] >= first_step}
        assert visited(uneven, decode, world_size, first_step, sampling="balanced") == expected


def test_balanced_epochs_visit_each_class_as_often_and_tell_repeats_apart(uneven, decode):
    held = visited(uneven, decode, sampling="balanced").values()
    keys, labels = ([each for part in held for each in part[column]] for column in (0, 1))
    assert np.bincount(labels).tolist() == [7, 7, 7]
    assert len(set(keys)) == 21
    own = set(uneven.keys.tolist())
    assert [sum(key in own for key, label in zip(keys, labels, strict=True) if label == c) for c in range(3)] == [
        7,
        4,
        2,
    ]
    assert visited(uneven, decode, sampling="balanced", epoch=3) != visited(uneven, decode, sampling="balanced")


@pytest.mark.parametrize("backend", ["dali", "reference"])
def test_a_repeated_sample_is_seen_in_another_view(uneven, decode, backend):
    data = DataConfig(source=backend, image_size=16, sampling="balanced")
    with train(data, uneven, decode) as source:
        held = [
            (label, image.numpy().tobytes())
            for step in source.epoch(0)
            for m in step.microbatches
            for label, image in zip(m.labels.tolist(), m.images, strict=True)
        ]
    assert len(set(held)) == len(held) == 21


def test_without_balance_every_key_is_a_samples_own(uneven, decode):
    keys = [key for held, _ in visited(uneven, decode).values() for key in held]
    assert keys == uneven.keys[epoch_order(5, 2, uneven.keys)].tolist()
