"""One answer for each image, in order, whatever is between them, and few images in memory."""

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resnet_dist.runtime.bundle import Bundle
from resnet_dist.runtime.operating_point import OperatingPoint
from resnet_dist.runtime.predictor import Prediction, Predictor
from tests.laws import examples
from tests.real_bundle import changed


@pytest.fixture(scope="module")
def predictor(bundle_folder: Path) -> Predictor:
    return Predictor.from_bundle(bundle_folder, threads=2)


def same(one: Prediction, other: Prediction) -> bool:
    return (one.label, one.error) == (other.label, other.error) and bool(
        np.allclose(one.probabilities, other.probabilities, atol=1e-5)
    )


def test_a_file_its_bytes_and_its_pixels_are_answered_alike(predictor: Predictor, image_files: Any, tmp_path: Path):
    photo = image_files.photo(48, 40)
    data = image_files.encode(photo, "PNG")
    (tmp_path / "photo.png").write_bytes(data)
    with Image.open(tmp_path / "photo.png") as opened:
        answers = predictor.predict([tmp_path / "photo.png", str(tmp_path / "photo.png"), data, photo, opened])
    assert len(answers) == 5
    assert all(same(answer, answers[0]) for answer in answers)
    assert sum(answers[0].probabilities) == pytest.approx(1)
    assert answers[0].confidence == max(answers[0].probabilities)


def test_grey_arrays_are_answered_as_their_file(predictor: Predictor, image_files: Any):
    grey = image_files.photo(48, 40)[:, :, 0]
    answers = predictor.predict([image_files.encode(grey, "PNG"), grey, grey[:, :, None], np.dstack([grey] * 3)])
    assert answers[0].error is None
    assert all(same(answer, answers[0]) for answer in answers)
    (deep,) = predictor.predict([grey.astype(np.uint16)])
    assert deep.error is not None
    assert "data.bit_depth" in deep.error


def test_answers_do_not_depend_on_how_images_are_batched(predictor: Predictor, image_files: Any):
    files = [image_files.encode(image_files.photo(40, 30, seed=seed), "PNG") for seed in range(6)]
    files[2] = image_files.damaged()["half a JPEG"]
    alone = [predictor.predict([file])[0] for file in files]
    assert alone[2].error
    assert alone[2] == Prediction(None, 0.0, (), alone[2].error)
    assert len({answer.label for answer in alone}) > 1

    @settings(max_examples=examples(0.2))
    @given(st.lists(st.integers(0, 5), max_size=12), st.integers(1, 14))
    def batched(order: list[int], batch_size: int) -> None:
        answers = predictor.predict([files[number] for number in order], batch_size)
        assert len(answers) == len(order)
        assert all(same(answer, alone[number]) for answer, number in zip(answers, order, strict=True))

    batched()


def test_every_damaged_file_is_an_answer_with_a_reason(predictor: Predictor, image_files: Any, tmp_path: Path):
    damaged = image_files.damaged()
    answers = predictor.predict([*damaged.values(), tmp_path / "absent.png", tmp_path])
    assert all(answer.label is None and answer.error and not answer.probabilities for answer in answers)
    assert [answer.error for answer in answers[-2:]] == [
        "cannot be read: No such file or directory",
        "cannot be read: Is a directory",
    ]


def test_an_image_over_the_bundles_bound_is_refused_by_its_header(predictor: Predictor, image_files: Any):
    (answer,) = predictor.predict([image_files.encode(np.zeros((101, 100, 3), np.uint8), "PNG")])
    assert answer.error == "100x101 pixels are more than data.max_pixels=10000"


def test_the_confidence_of_a_rejected_image_is_that_of_the_class_it_would_have_had(
    bundle_folder: Path, image_files: Any, tmp_path: Path
):
    photo = image_files.photo(48, 40)
    bundle = Bundle.open(bundle_folder)
    first, second = np.argsort(Predictor.of(bundle).predict([photo])[0].probabilities)[:-3:-1]
    # The most probable class stays below its threshold, so that the next one would be the answer.
    point = OperatingPoint(bundle.operating_point.temperature, {int(first): 0.999}, reject_below=0.998)
    place = changed(bundle_folder, tmp_path / "bundle", operating_point=point.to_json(bundle.classes))
    (answer,) = Predictor.from_bundle(place).predict([photo])
    assert answer.label is None
    assert answer.error is None
    assert answer.confidence == answer.probabilities[second] < answer.probabilities[first]


def test_a_stream_without_end_is_read_only_a_little_ahead(predictor: Predictor, image_files: Any):
    photo, asked = image_files.photo(40, 30), 0

    def endless() -> Iterator[tuple[int, np.ndarray]]:
        nonlocal asked
        for asked in count(1):
            yield asked, photo

    answers = predictor.stream(endless(), batch_size=4)
    keys: list[int] = []
    for taken in (1, 20, 40):
        keys += [key for key, _ in islice(answers, taken)]
    assert keys == list(range(1, 62))
    assert asked <= 61 + 5 * 4
    answers.close()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros(4, np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_an_array_that_is_no_image_is_a_mistake_of_the_caller(predictor: Predictor, image: Any):
    with pytest.raises(ValueError, match=r"it must be uint8 or uint16, \[height, width, 3\] RGB"):
        predictor.predict([image])


def test_a_batch_without_images_is_a_mistake_of_the_caller(predictor: Predictor):
    with pytest.raises(ValueError, match="batch_size=0"):
        predictor.predict([], batch_size=0)


def test_a_path_that_no_file_can_have_is_an_answer_too(predictor: Predictor, image_files: Any):
    """As one line of `find -print0` is, which is many paths."""
    photo = image_files.encode(image_files.photo(48, 40), "PNG")
    bad, good = predictor.predict(["a.png\0b.png\0", photo])
    assert bad == Prediction(None, 0.0, (), "no path of a file: embedded null byte")
    assert good.error is None
