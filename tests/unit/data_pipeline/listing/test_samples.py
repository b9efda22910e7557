import hashlib
import os
from pathlib import Path

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from data_pipeline.listing.samples import Samples, key_of, relative_path_of, sample_id_of

NAMES = st.binary(min_size=1, max_size=40).map(lambda name: name.replace(b"\0", b"").replace(b"/", b"")).filter(len)
AWKWARD = st.lists(
    st.sampled_from([b"\\", b"\\x", b"ff", b"\xff", b"\\xff", b"\xc3", b"\xa9", "é".encode(), b"\n", b'"', b" ", b"x"]),
    min_size=1,
    max_size=8,
).map(b"".join)


@given(NAMES | AWKWARD)
@example(b"\\\xff")
@example(b"\xff\\")
@example(b"\\xff")
@example(b"\xed\xa0\x80")  # a surrogate, which UTF-8 forbids
def test_a_path_comes_back_from_its_id(name):
    sample_id = sample_id_of(name)
    assert relative_path_of(sample_id) == name
    assert sample_id.encode("utf-8").decode("utf-8") == sample_id
    assert "\0" not in sample_id


@given(st.lists(NAMES | AWKWARD, min_size=1, max_size=4))
def test_parts_of_a_path_stay_parts(parts):
    path = b"/".join(parts)
    assert relative_path_of(sample_id_of(path)) == path
    assert sample_id_of(path) == "/".join(sample_id_of(part) for part in parts)


@given(NAMES | AWKWARD, NAMES | AWKWARD)
def test_different_paths_have_different_ids(one, other):
    assert (sample_id_of(one) == sample_id_of(other)) == (one == other)


@given(st.text(min_size=1, max_size=20).filter(lambda text: "\\" not in text and "\0" not in text))
def test_ordinary_names_are_their_own_ids(text):
    name = text.encode("utf-8", errors="ignore")
    assert sample_id_of(name) == name.decode()


def test_keys_are_64_bits_of_blake2b():
    digest = hashlib.blake2b("train/ö/1.png".encode(), digest_size=8).digest()
    assert key_of("train/ö/1.png") == int.from_bytes(digest, "little")
    assert 0 <= key_of("a") < 2**64


def test_paths_lead_to_files_whose_names_are_no_utf8(tmp_path):
    name = b"\xff \\ \n.png"
    (tmp_path / os.fsdecode(name)).write_bytes(b"here")
    samples = Samples(
        root=str(tmp_path),
        classes=("a",),
        sample_ids=(sample_id_of(name),),
        keys=np.array([1], dtype=np.uint64),
        labels=np.array([0]),
        sizes=np.array([[1, 1]], dtype=np.int32),
        plain=np.array([True]),
        content=("",),
    )
    assert Path(os.fsdecode(samples.path(0))).read_bytes() == b"here"


@given(st.lists(st.integers(0, 9), max_size=12))
def test_selected_rows_keep_their_columns_together(rows):
    count = 10
    samples = Samples(
        root="/data",
        classes=("a", "b"),
        sample_ids=tuple(f"{row}.png" for row in range(count)),
        keys=np.arange(count, dtype=np.uint64) + np.uint64(100),
        labels=np.arange(count) % 2,
        sizes=np.stack([np.arange(count), np.arange(count) + 50], axis=1).astype(np.int32),
        plain=np.arange(count) % 3 == 0,
        content=tuple(f"hash {row}" for row in range(count)),
    )
    chosen = samples.select(np.array(rows, dtype=np.int64))
    assert len(chosen) == len(rows)
    assert (chosen.root, chosen.classes) == (samples.root, samples.classes)
    assert chosen.sample_ids == tuple(f"{row}.png" for row in rows)
    assert chosen.content == tuple(f"hash {row}" for row in rows)
    assert chosen.keys.tolist() == [row + 100 for row in rows]
    assert chosen.labels.tolist() == [row % 2 for row in rows]
    assert chosen.sizes.tolist() == [[row, row + 50] for row in rows]
    assert chosen.plain.tolist() == [row % 3 == 0 for row in rows]
