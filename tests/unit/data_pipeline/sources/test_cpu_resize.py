import threading
from contextlib import closing

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from data_pipeline.sources.cpu_resize import CpuResize

SIDES = st.integers(1, 300)


def noise(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def sides(*numbers):
    return [np.float32(number) for number in numbers]


@pytest.fixture(scope="module")
def resize():
    with closing(CpuResize(2)) as made:
        yield made


@given(SIDES, SIDES, SIDES, SIDES)
@example(1, 1, 224, 224)
@example(3000, 2, 64, 64)
@example(2, 3000, 64, 64)
@example(1200, 300, 224, 224)
@example(300, 200, 300, 200)
def test_it_is_pillows_within_a_level(resize, width, height, new_width, new_height):
    image = noise(width, height)
    (resized,) = resize([image], sides(new_width), sides(new_height))
    expected = np.asarray(Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BILINEAR))
    assert resized.dtype == np.uint8
    assert resized.shape == expected.shape
    assert resized.flags.c_contiguous, "DALI would copy it pixel by pixel"
    assert not np.shares_memory(resized, image)
    assert np.abs(resized.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("torch_threads", [1, 2])
def test_an_image_depends_on_neither_its_batch_nor_threads(resize, threads, torch_threads):
    images = [noise(30 + 7 * n, 90 - 5 * n, n) for n in range(13)]
    widths, heights = sides(*range(20, 33)), sides(*range(60, 34, -2))
    alone = [resize([images[n]], widths[n : n + 1], heights[n : n + 1])[0] for n in range(13)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(torch_threads)
        with closing(CpuResize(threads)) as other:
            together = other(images, widths, heights)
    finally:
        torch.set_num_threads(before)
    assert [image.shape for image in together] == [(60 - 2 * n, 20 + n, 3) for n in range(13)]
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_where_one_fails_nobody_reads_any_longer(resize):
    """DALI's memory is valid during the call only."""
    begun = []

    class Watched(float):
        def __int__(self):
            begun.append(self)
            return super().__int__()

    image, good, bad = noise(1200, 1200), Watched(1000), Watched(0)
    sizes = [bad if number == 0 else good for number in range(40)]  # the first thread fails at once, with its share
    with pytest.raises(RuntimeError, match="greater than 0"):
        resize([image] * 40, sizes, sizes)
    assert begun.count(good) == 2 * 20


def test_threads_end_with_it():
    before = threading.enumerate()
    with closing(CpuResize(3)) as made:
        made([noise(4, 4)], sides(2), sides(2))
        assert len(threading.enumerate()) == len(before) + 3
    assert threading.enumerate() == before
