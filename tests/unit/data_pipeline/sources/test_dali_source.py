import os
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.config import AugmentationConfig, DataConfig
from data_pipeline.errors import DataError
from data_pipeline.listing.samples import read_file
from data_pipeline.sources.batching import Request
from data_pipeline.sources.build import evaluation_source, training_source
from data_pipeline.sources.dali_graphs import Operators
from data_pipeline.sources.dali_source import DaliRenderer
from data_pipeline.sources.reference_source import apply_view
from data_pipeline.sources.spec import RankShare, SourceSpec
from data_pipeline.views.augmentation import evaluation_views, training_views
from resnet_dist.runtime.image_file import decode_rgb
from tests.laws import examples

CPU = torch.device("cpu")
IMAGENET_SAMPLE = Path(__file__).parents[5] / "shared" / "data" / "imagenet-sample"
EVERYTHING = AugmentationConfig(
    vertical_flip=0.5, quarter_turns=True, brightness=0.4, contrast=0.4, saturation=0.4, erase=0.5
)
ALONE = AugmentationConfig(window="whole", horizontal_flip=0.0)
AUGMENTATIONS = {
    "everything": EVERYTHING,
    "everything, letterboxed": EVERYTHING.model_copy(update={"window": "letterbox"}),
    "default": AugmentationConfig(),
    **{
        f"{name}={value}": ALONE.model_copy(update={name: value})
        for name, value in {
            "window": "random_resized_crop",
            "horizontal_flip": 0.5,
            "vertical_flip": 0.5,
            "quarter_turns": True,
            "brightness": 0.5,
            "contrast": 0.5,
            "saturation": 0.5,
            "erase": 0.7,
        }.items()
    },
    "window=letterbox": ALONE.model_copy(update={"window": "letterbox"}),
}
SMALL = DataConfig(image_size=32)


def train(data, samples, decode, augmentation=EVERYTHING, rank=0, world_size=1, seed=1, cut=(8, 4)):
    return training_source(SourceSpec(data, decode, augmentation, seed, 2), samples, *cut, RankShare(rank, world_size))


def evaluate(data, samples, decode, rank=0, world_size=1):
    return evaluation_source(SourceSpec(data, decode, threads=2), samples, 8, RankShare(rank, world_size))


def microbatches(source, epoch, first_step=0):
    """(step, index) -> what a microbatch holds, as bytes."""
    return {
        (step.index, m.index): (m.images.numpy().tobytes(), m.keys.tobytes(), m.labels.numpy().tobytes())
        for step in source.epoch(epoch, first_step)
        for m in step.microbatches
    }


def all_images(source, epoch=0):
    """Images and keys of an epoch."""
    made = [m for step in source.epoch(epoch) for m in step.microbatches]
    return torch.cat([m.images for m in made]), np.concatenate([m.keys for m in made])


def judged(data, samples, decode):
    """All images of a split in its order."""
    with evaluate(data, samples, decode) as source:
        return torch.cat([batch.images for batch in source.batches()])


def by_reference(data):
    return data.model_copy(update={"source": "reference"})


@contextmanager
def renderer(data, samples, operators, decode):
    made = DaliRenderer(data, samples, operators, len(samples), CPU, 2, decode)
    try:
        yield made
    finally:
        made.close()


# Images


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_training_views_are_the_references(photographs, decode, assert_close, name):
    data = DataConfig(image_size=112)
    with (
        train(data, photographs, decode, AUGMENTATIONS[name]) as source,
        train(by_reference(data), photographs, decode, AUGMENTATIONS[name]) as reference,
    ):
        images, keys = all_images(source)
        expected, expected_keys = all_images(reference)
    np.testing.assert_array_equal(keys, expected_keys)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert_close(images, expected, data)


@pytest.mark.parametrize("resize", ["whole", "letterbox", "center_crop"])
@pytest.mark.parametrize("size", [64, 224])
def test_evaluation_views_are_the_references(photographs, decode, assert_close, resize, size):
    data = DataConfig(image_size=size, resize=resize, crop_fraction=0.8)
    assert_close(judged(data, photographs, decode), judged(by_reference(data), photographs, decode), data)


@pytest.mark.parametrize("window", ["random_resized_crop", "whole", "letterbox"])
def test_training_views_that_are_not_square_are_the_references(photographs, decode, assert_close, window):
    data = DataConfig(image_size=96, image_width=160)
    augmentation = EVERYTHING.model_copy(update={"quarter_turns": False, "window": window})
    with (
        train(data, photographs, decode, augmentation) as source,
        train(by_reference(data), photographs, decode, augmentation) as reference,
    ):
        images, expected = all_images(source)[0], all_images(reference)[0]
    assert images.shape[2:] == (96, 160)
    assert_close(images, expected, data)


@pytest.mark.parametrize("resize", ["whole", "letterbox", "center_crop"])
@pytest.mark.parametrize("size", [(96, 160), (160, 96)])
def test_evaluation_views_that_are_not_square_are_the_references(photographs, decode, assert_close, resize, size):
    data = DataConfig(image_size=size[0], image_width=size[1], resize=resize, crop_fraction=0.8)
    images = judged(data, photographs, decode)
    assert images.shape[2:] == size
    assert_close(images, judged(by_reference(data), photographs, decode), data)


@pytest.mark.parametrize("bit_depth", [12, 16])
@pytest.mark.parametrize("kind", ["grey PNG", "deep grey PNG", "deep grey TIFF", "deep RGB PNG", "deep RGB TIFF"])
def test_grey_and_deep_sets_train_alike(samples_in, image_files, tmp_path, assert_close, kind, bit_depth):
    files = {}
    for n in range(12):
        photo = image_files.photo(70 + n, 90 - 3 * n, seed=n)
        deep = photo.astype(np.uint16) * np.uint16(2 ** (bit_depth - 8)) + np.uint16(n)
        files[b"%02d" % n] = {
            "grey PNG": lambda photo=photo: image_files.encode(photo, "PNG", "L"),
            "deep grey PNG": lambda deep=deep: image_files.png(deep[:, :, :1], 16, 0),
            "deep grey TIFF": lambda deep=deep: image_files.encode(deep[:, :, 0], "TIFF"),
            "deep RGB PNG": lambda deep=deep: image_files.png(deep, 16, 2),
            "deep RGB TIFF": lambda deep=deep: image_files.tiff16(deep),
        }[kind]()
    samples = samples_in(tmp_path, files)
    assert samples.plain.all() == (kind == "grey PNG"), "DALI would not know the depth"
    decode = partial(decode_rgb, bit_depth=bit_depth, max_pixels=10**7)
    data = DataConfig(image_size=64, bit_depth=bit_depth)
    with train(data, samples, decode) as source, train(by_reference(data), samples, decode) as reference:
        images, expected = all_images(source)[0], all_images(reference)[0]
    assert_close(images, expected, data)
    shown = judged(data.model_copy(update={"image_size": 32}), samples, decode)
    assert shown.std() > 0.3, "the scale of the depth was lost"
    if "grey" in kind:
        levels = shown * torch.tensor(data.std).reshape(1, 3, 1, 1) + torch.tensor(data.mean).reshape(1, 3, 1, 1)
        assert (levels - levels[:, :1]).abs().max() < 1e-5


@pytest.mark.skipif(not IMAGENET_SAMPLE.is_dir(), reason="the sample of ImageNet is not here")
@pytest.mark.parametrize("augmentation", [AugmentationConfig(), EVERYTHING], ids=["default", "everything"])
def test_views_of_imagenet_are_the_references(samples_in, tmp_path, decode, assert_close, augmentation):
    files = {os.fsencode(path.name): path.read_bytes() for path in sorted(IMAGENET_SAMPLE.glob("*.JPEG"))[::16]}
    samples, data = samples_in(tmp_path, files), DataConfig()
    with (
        train(data, samples, decode, augmentation) as source,
        train(by_reference(data), samples, decode, augmentation) as reference,
    ):
        assert_close(all_images(source)[0], all_images(reference)[0], data)


def test_every_kind_of_file_is_seen_alike(samples_in, image_files, tmp_path, decode, assert_close):
    photo = image_files.photo(90, 60)
    deep = (photo.astype(np.uint16) << 4) | 7  # 12 bits
    files = {f"orientation {n}.jpg": image_files.turned(photo, "JPEG", n) for n in range(1, 9)}
    files |= {f"orientation {n}.png": image_files.turned(photo, "PNG", n) for n in (1, 6)}
    files |= {f"{mode}.{kind}": image_files.encode(photo, kind, mode) for mode, kind in (
        ("L", "JPEG"), ("CMYK", "JPEG"), ("L", "PNG"), ("1", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"),
        ("L", "BMP"), ("RGB", "BMP"), ("RGB", "TIFF"), ("RGB", "PPM"), ("P", "GIF"), ("RGB", "WEBP"),
    )}  # fmt: skip
    files |= {
        "progressive.jpg": image_files.encode(photo, "JPEG", progressive=True),
        "16 bit grey.png": image_files.png(deep[:, :, :1], 16, 0),
        "16 bit.png": image_files.png(deep, 16, 2),
        "16 bit.tif": image_files.tiff16(deep),
    }
    for width, height in ((1, 1), (2, 1), (16, 16), (240, 60), (60, 240), (7, 90)):
        for kind in ("JPEG", "PNG"):
            files[f"{width}x{height}.{kind}"] = image_files.encode(image_files.photo(width, height), kind)
    samples = samples_in(tmp_path, {name.encode(): data for name, data in files.items()})
    assert 10 < samples.plain.sum() < len(samples) - 10
    for resize in ("whole", "letterbox", "center_crop"):
        data = DataConfig(image_size=64, resize=resize)
        images, expected = judged(data, samples, decode), judged(by_reference(data), samples, decode)
        for row, name in enumerate(samples.sample_ids):
            try:
                assert_close(images[row : row + 1], expected[row : row + 1], data)
            except AssertionError as error:
                raise AssertionError(f"{name}, {resize}") from error
    with train(DataConfig(image_size=64), samples, decode) as source:
        images, _ = all_images(source)
    with train(by_reference(DataConfig(image_size=64)), samples, decode) as source:
        assert_close(images, all_images(source)[0], data)


def test_only_files_that_decoders_read_differently_are_decoded_here(samples_in, image_files, tmp_path, decode):
    photo = image_files.photo(30, 20)
    palette = image_files.encode(photo, "PNG", "P")
    samples = samples_in(tmp_path, {b"a.jpg": image_files.encode(photo, "JPEG"), b"b.png": palette})
    seen = []

    def watched(data):
        seen.append(data)
        return decode(data)

    judged(SMALL, samples, watched)
    assert seen == [palette]


def test_any_file_name_will_do(samples_in, image_files, tmp_path, decode):
    photo = image_files.encode(image_files.photo(30, 20), "JPEG")
    names = [
        b"plain.jpg",
        b"two words.jpg",
        b"two\nlines.jpg",
        b"\xff\xfe.jpg",
        b"back\\slash.jpg",
        "größe.jpg".encode(),
        b"'\"$(x)`.jpg",
        b"{0}%s*?.jpg",
        b"no suffix",
    ]
    images = judged(SMALL, samples_in(tmp_path, dict.fromkeys(names, photo)), decode)
    assert len(images) == len(names)
    assert (images == images[0]).all()


def test_turns_and_flips_move_pixels_and_change_none(photographs, decode):
    data = DataConfig(image_size=97)
    operators = Operators(
        canvas=True, turns=True, vertical_flips=True, horizontal_flips=True, colour=False, erase=False
    )
    rows = np.zeros(16, dtype=np.int64)
    plain = evaluation_views(data, photographs.sizes[rows])
    turns = np.repeat(np.arange(4, dtype=np.int32), 4)
    flips = np.array([(0, 0), (1, 0), (0, 1), (1, 1)] * 4, dtype=np.int32)
    with renderer(data, photographs, operators, decode) as made:
        (images,) = made.render(iter([Request(rows, replace(plain, quarter_turns=turns, flips=flips))]))
    for image, turn, (horizontal, vertical) in zip(images, turns, flips, strict=True):
        expected = torch.rot90(images[0], int(turn), (1, 2))
        expected = expected.flip(2) if horizontal else expected
        expected = expected.flip(1) if vertical else expected
        assert torch.equal(image, expected)


def test_operators_that_a_view_does_not_need_change_nothing(photographs, decode):
    rows = np.arange(len(photographs))
    request = Request(rows, evaluation_views(SMALL, photographs.sizes))
    none, all_but_colour = Operators(*[False] * 6), Operators(True, True, True, True, False, True)
    with renderer(SMALL, photographs, none, decode) as made:
        (expected,) = made.render(iter([request]))
    with renderer(SMALL, photographs, all_but_colour, decode) as made:
        (images,) = made.render(iter([request]))
    assert torch.equal(images, expected)


def test_a_graph_has_what_its_augmentation_may_draw():
    assert Operators.of_training(ALONE) == Operators(False, False, False, False, False, False)
    assert Operators.of_training(AUGMENTATIONS["everything, letterboxed"]) == Operators(
        True, True, True, True, True, True
    )
    assert Operators.of_evaluation(DataConfig()) == Operators.of_training(ALONE)
    assert Operators.of_evaluation(DataConfig(resize="letterbox")).canvas


# Batches


@pytest.fixture(scope="module")
def undisturbed(small_photos, decode):
    with train(SMALL, small_photos, decode) as source:
        return {epoch: microbatches(source, epoch) for epoch in range(3)}


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_microbatches_do_not_depend_on_the_worker_count(small_photos, decode, undisturbed, world_size):
    found = {}
    for rank in range(world_size):
        with train(SMALL, small_photos, decode, rank=rank, world_size=world_size) as source:
            for step in source.epoch(1):
                mine = [m.index for m in step.microbatches]
                assert mine == list(range(rank, step.microbatch_count, world_size))
            mine = microbatches(source, 1)
            assert not found.keys() & mine.keys()
            found |= mine
    assert found == undisturbed[1]


def test_microbatches_after_a_restart_are_those_of_the_undisturbed_run(small_photos, decode, undisturbed):
    for first_step in range(4):
        with train(SMALL, small_photos, decode) as source:
            expected = {place: held for place, held in undisturbed[2].items() if place[0] >= first_step}
            assert microbatches(source, 2, first_step) == expected


@settings(max_examples=examples(0.12))
@given(st.integers(1, 16), st.integers(1, 4), st.integers(0, 2))
def test_microbatches_do_not_depend_on_prefetching_or_threads(
    small_photos, decode, undisturbed, prefetch, threads, epoch
):
    data = SMALL.model_copy(update={"prefetch": prefetch})
    with training_source(SourceSpec(data, decode, EVERYTHING, 1, threads), small_photos, 8, 4, RankShare()) as source:
        assert microbatches(source, epoch) == undisturbed[epoch]


@pytest.mark.parametrize("augmentation", ["everything", "everything, letterboxed"])
def test_a_view_does_not_depend_on_its_batch(small_photos, decode, augmentation):
    rows, drawn = np.arange(len(small_photos)), AUGMENTATIONS[augmentation]
    views = training_views(SMALL, drawn, 1, 0, small_photos.keys, small_photos.sizes)
    with renderer(SMALL, small_photos, Operators.of_training(drawn), decode) as made:
        (together,) = made.render(iter([Request(rows, views)]))
        alone = list(made.render(Request(rows[n : n + 1], views.rows(slice(n, n + 1))) for n in rows.tolist()))
        (backwards,) = made.render(iter([Request(rows[::-1], views.rows(rows[::-1]))]))
    assert torch.equal(torch.cat(alone), together)
    assert torch.equal(backwards.flip(0), together)


def test_epochs_seeds_and_samples_differ(undisturbed, small_photos, decode):
    images = [held[0] for epoch in undisturbed.values() for held in epoch.values()]
    assert len(set(images)) == len(images) == 3 * 5  # the lone last sample joins the fifth
    with train(SMALL, small_photos, decode, seed=2) as source:
        assert not set(images) & {held[0] for held in microbatches(source, 0).values()}


@pytest.mark.parametrize("backend", ["dali", "reference"])
def test_a_view_is_that_of_its_seed_epoch_and_sample(small_photos, decode, assert_close, backend):
    data = SMALL.model_copy(update={"source": backend})
    rows = {key: row for row, key in enumerate(small_photos.keys.tolist())}
    with train(data, small_photos, decode, seed=5) as source:
        for epoch in range(3):
            images, keys = all_images(source, epoch)
            views = training_views(
                data, EVERYTHING, 5, epoch, keys, small_photos.sizes[[rows[key] for key in keys.tolist()]]
            )
            expected = [
                apply_view(decode(read_file(small_photos, rows[key])), views, place, data)
                for place, key in enumerate(keys.tolist())
            ]
            assert_close(images, torch.from_numpy(np.stack(expected)).permute(0, 3, 1, 2), data)


def test_blocks_have_their_own_order_and_the_same_views(small_photos, decode):
    blocks = SMALL.model_copy(update={"order": "blocks", "block_rows": 4, "window_blocks": 2})
    with train(SMALL, small_photos, decode) as full, train(blocks, small_photos, decode) as source:
        images, keys = all_images(full)
        block_images, block_keys = all_images(source)
    assert keys.tolist() != block_keys.tolist()
    assert torch.equal(images[np.argsort(keys)], block_images[np.argsort(block_keys)])


def test_keys_and_labels_belong_to_the_images(small_photos, decode):
    places = {key: row for row, key in enumerate(small_photos.keys.tolist())}
    expected = judged(SMALL, small_photos, decode)
    with train(SMALL, small_photos, decode, ALONE) as source:
        for step in source.epoch(4):
            for m in step.microbatches:
                rows = [places[key] for key in m.keys.tolist()]
                assert torch.equal(m.images, expected[rows])
                assert m.labels.tolist() == small_photos.labels[rows].tolist()


def test_evaluation_batches_are_fixed_and_shared_out(small_photos, decode):
    expected = judged(SMALL, small_photos, decode)
    seen = []
    for rank in range(2):
        with evaluate(SMALL, small_photos, decode, rank, 2) as source:
            assert source.samples == 21
            for _ in range(2):  # a source can be asked again
                batches = list(source.batches())
            for batch in batches:
                assert torch.equal(batch.images, expected[batch.rows])
                assert batch.labels.tolist() == small_photos.labels[batch.rows].tolist()
                seen.append(batch.rows.tolist())
    assert sorted(seen) == [list(range(8)), list(range(8, 16)), list(range(16, 21))]


def test_images_stay_as_they_were_while_they_are_held(small_photos, decode):
    with train(SMALL, small_photos, decode) as source:
        held = [(m.images, m.images.clone()) for e in range(5) for step in source.epoch(e) for m in step.microbatches]
        assert all(torch.equal(images, copy) for images, copy in held)
    assert all(torch.equal(images, copy) for images, copy in held)
    images, _ = held[0]
    images.zero_()
    assert all(torch.equal(images, copy) for images, copy in held[1:])


# Interruptions


def test_an_epoch_given_up_leaves_the_next_one_alone(small_photos, decode, undisturbed):
    with train(SMALL, small_photos, decode) as source:
        for taken in range(4):
            epoch = source.epoch(0)
            for step in islice(epoch, taken):
                next(step.microbatches)
            epoch.close()
            assert microbatches(source, 1) == undisturbed[1]


def test_an_epoch_given_up_but_kept_leaves_the_next_one_alone_and_says_so(small_photos, decode, undisturbed):
    with train(SMALL, small_photos, decode) as source:
        kept = source.epoch(0)
        step = next(kept)
        next(step.microbatches)
        assert microbatches(source, 1) == undisturbed[1]
        with pytest.raises(RuntimeError, match="given up"):
            next(step.microbatches)
        assert microbatches(source, 2) == undisturbed[2]


def test_microbatches_left_over_are_not_taken_for_the_next_steps(small_photos, decode, undisturbed):
    found = {}
    with train(SMALL, small_photos, decode) as source:
        for step in source.epoch(0):
            m = next(step.microbatches)
            found[step.index, m.index] = (m.images.numpy().tobytes(), m.keys.tobytes(), m.labels.numpy().tobytes())
    assert found == {place: held for place, held in undisturbed[0].items() if place[1] == 0}


def test_threads_end_with_the_source(small_photos, decode):
    def ours():
        return [thread for thread in threading.enumerate() if thread.name.startswith("dali-")]

    before = threading.enumerate()
    assert ours() == []
    with train(SMALL, small_photos, decode) as source:
        kept = source.epoch(0)
        next(next(kept).microbatches)
        assert ours()
    assert threading.enumerate() == before, "threads that DALI starts stay known to Python"


# Files that change after the scan


@pytest.fixture
def four_files(samples_in, image_files, tmp_path):
    photos = {f"{n:02d}.jpg".encode(): image_files.encode(image_files.photo(60, 40, seed=n), "JPEG") for n in range(12)}
    return samples_in(tmp_path, photos)


@pytest.mark.parametrize("damage", ["half", "empty", "text"])
@pytest.mark.parametrize("row", [0, 7, 11])
def test_a_file_that_can_no_longer_be_decoded_is_named(four_files, decode, damage, row):
    path = Path(os.fsdecode(four_files.path(row)))
    whole = path.read_bytes()
    with evaluation_source(SourceSpec(SMALL, decode, threads=2), four_files, 2, RankShare()) as source:
        expected = [batch.images for batch in source.batches()]
        path.write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "text": b"text"}[damage])
        with pytest.raises(DataError, match=rf"could not decode '{row:02d}\.jpg',.*readable when.*reference"):
            list(source.batches())
        path.write_bytes(whole)
        again = [batch.images for batch in source.batches()]
    assert all(torch.equal(a, b) for a, b in zip(expected, again, strict=True))


@pytest.mark.parametrize("row", [0, 7, 11])
def test_a_file_that_is_gone_is_named(four_files, decode, row):
    path = Path(os.fsdecode(four_files.path(row)))
    with evaluation_source(SourceSpec(SMALL, decode, threads=2), four_files, 2, RankShare()) as source:
        expected = [batch.images for batch in source.batches()]
        path.rename(f"{path}.away")
        with pytest.raises(DataError, match=rf"'{row:02d}\.jpg'.*No such file.*restore it"):
            list(source.batches())
        Path(f"{path}.away").rename(path)
        again = [batch.images for batch in source.batches()]
    assert all(torch.equal(a, b) for a, b in zip(expected, again, strict=True))


def test_a_file_that_has_become_smaller_names_its_microbatch(four_files, decode, image_files):
    Path(os.fsdecode(four_files.path(5))).write_bytes(image_files.encode(image_files.photo(20, 10), "JPEG"))
    with (
        evaluation_source(SourceSpec(SMALL, decode, threads=2), four_files, 4, RankShare()) as source,
        pytest.raises(DataError, match=r"could not decode one of .*'05\.jpg'"),
    ):
        list(source.batches())


def test_a_file_that_decode_refuses_is_named(samples_in, image_files, tmp_path, decode):
    samples = samples_in(tmp_path, {b"a.png": image_files.encode(image_files.photo(30, 20), "PNG", "P")})
    Path(tmp_path, "a.png").write_bytes(b"text")
    with evaluate(SMALL, samples, decode) as source, pytest.raises(DataError, match=r"'a\.png'.*no JPEG"):
        list(source.batches())
