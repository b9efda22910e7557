import numpy as np
import pytest
from PIL import Image

from data_pipeline.sources import dali_probe
from data_pipeline.sources.dali_probe import probe
from resnet_dist.runtime.image_file import image_header


def test_good_images_pass(image_files):
    kinds = [("JPEG", None), ("JPEG", "L"), ("PNG", None), ("PNG", "L"), ("BMP", None)]
    files = [image_files.encode(image_files.photo(30, 20, seed=n), kind, mode) for n, (kind, mode) in enumerate(kinds)]
    assert probe(files) == [(30, 20)] * len(files)
    assert probe([]) == []


@pytest.mark.parametrize("name", ["empty", "text", "half a JPEG", "JPEG's first bytes", "PNG's first bytes", "zeros"])
def test_a_damaged_image_gets_a_reason(image_files, name):
    (reason,) = probe([image_files.damaged()[name]])
    assert reason.startswith("DALI cannot decode it: ")
    assert len(reason) > len("DALI cannot decode it: ")
    assert "\n" not in reason


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_upright(image_files, orientation):
    data = image_files.turned(image_files.photo(30, 20), "JPEG", orientation)
    assert probe([data]) == [image_header(data, max_pixels=10**6)[:2]]


@pytest.mark.parametrize("name", ["half a JPEG", "half a PNG", "text"])
def test_bad_ones_are_found_among_good_ones_wherever_they_are(image_files, name):
    files = [image_files.encode(image_files.photo(20, 10, seed=n), "JPEG" if n % 2 else "PNG") for n in range(70)]
    places = sorted({0, 31, 32, 69, *np.random.default_rng(5).permutation(70)[:4].tolist()})
    for place in places:
        files[place] = image_files.damaged()[name]
    assert [place for place, verdict in enumerate(probe(files)) if isinstance(verdict, str)] == places


def test_large_images_are_decoded_few_at_a_time(image_files, monkeypatch):
    monkeypatch.setattr(dali_probe, "_BATCH_PIXELS", 2500)
    files = [image_files.encode(Image.new("RGB", (40, 30)), "PNG") for _ in range(5)]
    huge = image_files.encode(Image.new("RGB", (100, 100)), "PNG")
    batches = list(dali_probe._batches([*files, huge, b"no image", files[0]]))
    assert [len(batch) for batch in batches] == [2, 2, 1, 1, 1, 1]
    assert probe([*files, huge, b"no image", files[0]])[5:] == [(100, 100), probe([b"no image"])[0], (40, 30)]
