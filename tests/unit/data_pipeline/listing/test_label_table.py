"""Labels files: what they say becomes rows, and what cannot be right is refused with the line."""

import csv
import io
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.config import DataConfig
from data_pipeline.errors import DataError
from data_pipeline.listing import table_file
from data_pipeline.listing.csv_cells import safe_cell
from data_pipeline.listing.index import Dataset, index_folder
from data_pipeline.listing.label_table import label_rows
from data_pipeline.listing.parquet_child import answers
from data_pipeline.listing.parquet_file import ParquetRequest, rows_of
from data_pipeline.listing.scan import Readers
from resnet_dist.runtime.image_file import decode_rgb, image_header
from tests.complaints import complains

pa: Any = pyarrow  # untyped
pq: Any = pyarrow.parquet
DECODE = partial(decode_rgb, bit_depth=None, max_pixels=10**6)
HEADER = partial(image_header, max_pixels=10**6)
NAMES = ("one.png", "two.png", "deep/three.png", "deep/four.png", "five.png", "six.png")


@pytest.fixture
def root(image_files: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for seed, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(image_files.encode(image_files.photo(9, 7, seed=seed), "PNG"))
    return folder


def in_process(path: Path, *wanted: str) -> Iterator[dict[str, str]]:
    """The rows of a Parquet file, read as the child reads them, which takes half a second to start."""
    return rows_of(answers(ParquetRequest(str(path), wanted, (), 2**29, 10**6)))


@pytest.fixture
def index(root: Path, tmp_path: Path) -> Callable[..., Dataset]:
    """Indexes the folder by a labels file: CSV text, bytes, or columns for Parquet."""

    def index_it(table: str | bytes | dict[str, list[Any]], **settings: Any) -> Dataset:
        name = "labels.parquet" if isinstance(table, dict) else "labels.csv"
        if isinstance(table, dict):
            pq.write_table(pa.table(table), root / name)
        else:
            (root / name).write_bytes(table.encode() if isinstance(table, str) else table)
        data = DataConfig(root=str(root), labels=name, cache_dir=str(tmp_path / "cache"), **settings)
        return index_folder(data, Readers(DECODE, HEADER))

    return index_it


def lines(*rows: str, header: str = "path,label") -> str:
    return "\r\n".join([header, *rows]) + "\r\n"


GOOD = ("two.png,dent", "one.png,good", "deep/three.png,dent")


def test_rows_become_samples_sorted_by_id(index: Callable[..., Dataset]) -> None:
    dataset = index(lines(*GOOD))
    samples = dataset.samples
    assert samples.classes == ("dent", "good")
    assert samples.sample_ids == ("deep/three.png", "one.png", "two.png")
    assert samples.labels.tolist() == [0, 1, 0]
    assert dataset.splits == (None,) * 3
    assert dataset.groups == (None,) * 3
    assert dataset.unreadable == ()
    assert all(Path(samples.path(row).decode()).exists() for row in range(3))


def test_splits_and_groups_are_read_and_other_columns_are_not(index: Callable[..., Dataset]) -> None:
    dataset = index(
        lines(
            "train,7,one.png,good,p1", "val,8,two.png,good,", "train,9,five.png,dent,p1", "test,,six.png,dent,p2",
            header="split,camera,path,label,group",
        )
    )  # fmt: skip
    assert dataset.samples.sample_ids == ("five.png", "one.png", "six.png", "two.png")
    assert dataset.splits == ("train", "train", "test", "val")
    assert dataset.groups == ("p1", "p1", "p2", None)


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf" + lines(*GOOD).encode(),
        lines(*GOOD).replace("\r\n", "\n").encode(),
        lines(*GOOD).rstrip("\r\n").encode(),
        lines(*GOOD, "").encode(),
        lines('"two.png","dent"', *GOOD[1:]).encode(),
        lines("./two.png,dent", *GOOD[1:]).encode(),
    ],
    ids=["byte order mark", "line feeds", "no last line end", "blank line", "quotes", "dot"],
)
def test_spellings_of_the_same_table_are_the_same_data(index: Callable[..., Dataset], text: bytes) -> None:
    assert index(text).fingerprint == index(lines(*GOOD)).fingerprint


def test_parquet_says_the_same_as_csv(index: Callable[..., Dataset]) -> None:
    header = "path,label,split,group"
    expected = index(lines("one.png,1,train,", "two.png,2,train,g", "five.png,1,val,", header=header))
    for labels, groups in (
        (pa.array(["1", "2", "1"]), [None, "g", ""]),
        (pa.array([1, 2, 1]), pa.array([None, "g", None]).dictionary_encode()),
    ):
        columns = {"path": ["one.png", "two.png", "five.png"], "label": labels, "extra": [[1], [], None]}
        found = index(columns | {"split": ["train", "train", "val"], "group": groups})
        assert found.fingerprint == expected.fingerprint
        assert (found.splits, found.groups) == (expected.splits, expected.groups)


NAME = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..")
)
TRIMMED = NAME.filter(lambda name: name == name.strip())
PATHS = st.lists(st.lists(NAME, min_size=1, max_size=3).map("/".join), min_size=1, max_size=8, unique=True)


@given(PATHS, st.data())
def test_any_text_survives_in_csv_and_parquet(tmp_path_factory: Any, paths: list[str], data: st.DataObject) -> None:
    paths = [path for path in paths if not (path[1:3] in (":\\", ":/") and path[0].isalpha())]
    folder = tmp_path_factory.mktemp("tables")
    labels = [data.draw(TRIMMED) for _ in paths]
    groups = [data.draw(st.none() | TRIMMED) for _ in paths]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("group", "path", "label"))
    writer.writerows(map(safe_cell, (group or "", *rest)) for group, *rest in zip(groups, paths, labels, strict=True))
    (folder / "t.csv").write_bytes(text.getvalue().encode())
    pq.write_table(pa.table({"path": pa.array(paths, pa.string()), "label": pa.array(labels, pa.string()),
                             "group": pa.array(groups, pa.string())}), folder / "t.parquet")  # fmt: skip
    rows = label_rows(folder / "t.csv") if paths else []
    assert [row.relative_path.decode() for row in rows] == paths
    assert [row.label for row in rows] == labels
    assert [row.group for row in rows] == groups
    found = in_process(folder / "t.parquet", "path", "label", "group")
    assert [tuple(row.values()) for row in found] == [
        (path, label, group or "") for path, label, group in zip(paths, labels, groups, strict=True)
    ]


SAME = "one.png,good", "two.png,dent", "./one.png,dent"
SPLIT, GROUPED = "path,label,split", "path,label,group"


@pytest.mark.parametrize(
    ("table", "key", "values", "remedy"),
    [
        (lines("a,b", header="file,class"), "label", ("path", "'file', 'class'"), "rename"),
        (lines("a;b", header="path;label"), "label", ("path", "path;label"), "separate"),
        (lines("a", header="path"), "label", ("path",), "rename"),
        ("", "label", ("path",), "rename"),
        (lines(), "labels.csv", ("data.labels",), ("add", "leave")),
        (lines("a,b,c", header="path,label,path"), "path", ("'path', 'label', 'path'",), "remove"),
        (lines(*GOOD, "five.png"), "line 5", (1, 2), "put"),
        (lines(*SAME), "line 2", ("line 4", "path='one.png'"), "remove"),
        (lines('"a\nb.png",x', "a,y", "a,z"), "line 4", ("line 5", "path='a'"), "remove"),
        (lines("one.png,good", "/etc/two.png,dent"), "line 3", ("path='/etc/two.png'", "data.root"), "write"),
        (lines(r"C:\two.png,dent"), "line 2", (r"path='C:\\two.png'", "data.root"), "write"),
        (lines("one.png,good", "deep/../../x.png,dent"), "line 3", ("path='deep/../../x.png'",), ("write", "set")),
        (lines(",good"), "line 2", ("path=''",), "write"),
        (lines("one.png,"), "line 2", ("label=''", "path='one.png'"), ("add", "remove")),
        (lines("one.png,  "), "line 2", ("label='  '",), ("add", "remove")),
        (lines("one.png,good", "two.png, good"), "line 3", ("label=' good'",), "remove"),
        (lines("one.png,good,a ", header=GROUPED), "line 2", ("group='a '",), "remove"),
        (lines("one.png,good,\u00a0", header=GROUPED), "line 2", (r"group='\xa0'",), "remove"),
        (lines("one.png,a,dev", header=SPLIT), "line 2", ("split='dev'", "train, val, test", "'val'"), "use"),
        (lines("one.png,a,x", header=SPLIT), "line 2", ("split='x'", "train, val, test"), ("use", "correct", "leave")),
        (lines("one.png,a,train", "two.png,a,", header=SPLIT), "line 3", ("split='train'",), ("fill", "leave")),
        (lines("one.png,a,val", "two.png,a,test", header=SPLIT), "split='train'", ("labels.csv",), ("name", "leave")),
        (lines("one.png,a,train,p 1", "two.png,a,test,p 1", header="path,label,split,group"),
         "group", ("p 1", "line 2", "train", "line 3", "test"), "move"),
        (lines("one.png,a,train", "two.png,b,train", "five.png,c,val", header=SPLIT),
         "class", ("c", "val", "train"), ("add", "remove")),
        (lines("one.png,a", "two.png,a"), "labels.csv", ("a",), ()),
        (lines('one.png,"a"b'), "line 2", ("labels.csv", "RFC 4180"), ()),
        (lines('one.png,"a'), "line 2", ("labels.csv", "RFC 4180"), ()),
        (lines("one.png,good").encode("utf-16"), "UTF-8", ("labels.csv",), "save"),
        (lines("one.png,größe").encode("latin-1"), "UTF-8", ("labels.csv",), "save"),
        (lines(f"one.png,{'x' * 5000}"), "line 2", (5000, 4096), "shorten"),
        (lines(f"one.png,{'x' * 200_000}"), "line 2", ("labels.csv", 131072), ()),
        ({"path": ["one.png"], "label": [None]}, "row 1", ("label=''", "path='one.png'"), ("add", "remove")),
        ({"path": ["one.png"], "label": [1.5]}, "label", ("labels.parquet", "double"), ()),
        ({"path": ["one.png"]}, "label", ("labels.parquet", "path"), "rename"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_right_are_refused(
    index: Callable[..., Dataset], table: Any, key: str, values: tuple[object, ...], remedy: str | tuple[str, ...]
) -> None:
    with pytest.raises(DataError) as refused:
        index(table)
    complains(refused, key, *values, remedy=remedy)


def test_a_path_with_a_zero_byte_is_refused(index: Callable[..., Dataset]) -> None:
    with pytest.raises(DataError) as refused:
        index(lines("a\0,good"))
    complains(refused, "line 2", "labels.csv")


@pytest.mark.parametrize("keep", [0, 4, 100, -1, -9])
def test_damaged_parquet_is_refused(root: Path, keep: int) -> None:
    pq.write_table(pa.table({"path": ["one.png", "two.png"], "label": ["a", "b"]}), root / "whole.parquet")
    (root / "labels.parquet").write_bytes((root / "whole.parquet").read_bytes()[:keep])
    with pytest.raises(DataError) as refused:
        index_folder(DataConfig(root=str(root), labels="labels.parquet"), Readers(DECODE, HEADER))
    complains(refused, "labels.parquet", remedy="write")


def test_a_table_that_is_not_there_is_refused(root: Path) -> None:
    for name, message in (
        ("none.csv", "cannot be read .No such file"),
        ("deep", "is no file"),
        ("x" * 300, "cannot be read .File name too long"),
    ):
        with pytest.raises(DataError, match=f"data.labels=.*{name} {message}"):
            index_folder(DataConfig(root=str(root), labels=name), Readers(DECODE, HEADER))


def test_a_table_may_lie_anywhere_and_is_no_part_of_the_fingerprint(
    index: Callable[..., Dataset], root: Path, tmp_path: Path
) -> None:
    expected = index(lines(*GOOD)).fingerprint
    (tmp_path / "elsewhere.csv").write_text(lines(*GOOD))
    data = DataConfig(root=str(root), labels=str(tmp_path / "elsewhere.csv"), cache_dir=str(tmp_path / "cache"))
    assert index_folder(data, Readers(DECODE, HEADER)).fingerprint == expected


def test_a_table_next_to_the_command_but_not_below_the_root_is_pointed_out(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("split.csv").write_text(lines(*GOOD))
    with pytest.raises(DataError) as refused:
        index_folder(DataConfig(root=str(root), labels="split.csv"), Readers(DECODE, HEADER))
    complains(refused, "data.root", f"data.labels={tmp_path / 'split.csv'}")


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
def test_a_table_that_must_not_be_read_is_refused(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / name).write_text(lines(*GOOD))

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # whoever tests as root may read all
    with pytest.raises(DataError) as refused:
        label_rows(root / name)
    complains(refused, "data.labels", name, "Permission denied", remedy="make")


@pytest.mark.slow
def test_one_long_text_in_many_rows_takes_memory_once(root: Path) -> None:
    table = pa.table({"path": [f"{row}.png" for row in range(20_000)], "label": ["x" * 20_000] * 20_000})
    pq.write_table(table, root / "bomb.parquet", row_group_size=20_000)
    del table
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        rows = in_process(root / "bomb.parquet", "path", "label")
        assert sum(len(row["label"]) for row in rows) == 20_000**2
        python = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)
    assert max(python, pool.max_memory()) < 30e6


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_parquet_encodings_that_could_hide_long_texts_are_refused(root: Path, encoding: str) -> None:
    table = pa.table({"path": ["one.png", "two.png"], "label": ["a", "b"]})
    pq.write_table(table, root / "t.parquet", use_dictionary=False, column_encoding={"label": encoding})
    with pytest.raises(DataError) as refused:
        label_rows(root / "t.parquet")
    complains(refused, "label", encoding, remedy="write")


FOLDED = "path,label,split,group,fold"
FOLDS = (
    "one.png,a,train,,0",
    "two.png,b,train,p,1",
    "five.png,a,val,,1",
    "six.png,b,train,,0",
    "deep/four.png,b,test,,",
)


def test_folds_are_read_where_they_are_asked_for(index: Callable[..., Dataset]) -> None:
    dataset = index(lines(*FOLDS, header=FOLDED), folds=2)
    assert dict(zip(dataset.samples.sample_ids, dataset.folds, strict=True)) == {
        "one.png": 0, "two.png": 1, "five.png": 1, "six.png": 0, "deep/four.png": None}  # fmt: skip
    without = index(lines(*FOLDS, header=FOLDED))
    assert without.folds == ()
    assert without.fingerprint != dataset.fingerprint, "the folds say what is trained on"
    empty = index(lines(*(row[:-1] + row[-1].strip("01") for row in FOLDS), header=FOLDED), folds=2)
    assert empty.folds == ()
    assert empty.fingerprint == without.fingerprint


@pytest.mark.parametrize(
    ("row", "key", "values", "remedy"),
    [
        ("x.png,a,train,,2", "line 7", ("fold='2'", "data.folds=2", "0 to 1"), ("correct", "leave", "set")),
        ("x.png,a,train,,-1", "line 7", ("fold='-1'",), "correct"),
        ("x.png,a,train,,1.0", "line 7", ("fold='1.0'",), "correct"),
        ("x.png,a,train,,\u0661", "line 7", ("fold='\u0661'",), "correct"),
        ("x.png,a,train,,", "line 7", ("line 2", "fold=0"), ("fill", "leave")),
        ("x.png,a,test,,1", "line 7", ("fold=1", "test"), "leave"),
        ("x.png,b,train,p,0", "group", ("p", "fold 1", "line 3", "fold 0", "line 7"), "move"),
    ],
)
def test_folds_that_cannot_be_right_are_refused(
    index: Callable[..., Dataset], row: str, key: str, values: tuple[object, ...], remedy: str | tuple[str, ...]
) -> None:
    with pytest.raises(DataError) as refused:
        index(lines(*FOLDS, row, header=FOLDED), folds=2)
    complains(refused, key, *values, remedy=remedy)


def test_folds_without_splits_are_refused(index: Callable[..., Dataset]) -> None:
    with pytest.raises(DataError) as refused:
        index(lines("one.png,a,0", "two.png,b,1", header="path,label,fold"), folds=2)
    complains(refused, "line 2", "fold=0", "split", remedy="add")


@pytest.mark.parametrize(("column", "message"), [(None, None), ("serial", None), ("group", r"lacks column group")])
def test_a_column_of_groups_is_required_only_where_it_is_named(root: Path, column: str | None, message: Any) -> None:
    (root / "t.csv").write_text(lines("one.png,a,s1", header="path,label,serial"))
    if message is None:
        assert [row.group for row in label_rows(root / "t.csv", column)] == [None if column is None else "s1"]
    else:
        with pytest.raises(DataError, match=message):
            label_rows(root / "t.csv", column)


def test_size_and_rows_are_bounded(index: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {"path": ["one.png", "two.png"], "label": ["a", "b"]}
    with monkeypatch.context() as patch:
        patch.setattr(table_file, "MAX_BYTES", 30)
        for table in (lines(*GOOD), columns):
            with pytest.raises(DataError, match=r"bytes, and at most 30 are read"):
                index(table)
    with monkeypatch.context() as patch:
        patch.setattr(table_file, "MAX_ROWS", 1)
        with pytest.raises(DataError, match=r"more than 1 rows; split it up"):
            index(lines(*GOOD))
        with pytest.raises(DataError, match=r"holds 2 rows .*at most 1 rows"):
            index(columns)
    # Few bytes that decompress to many.
    with monkeypatch.context() as patch:
        patch.setattr(table_file, "MAX_BYTES", 100_000)
        names = [f"{'x' * 100}{n}.png" for n in range(3000)]
        with pytest.raises(DataError, match=r"bytes of path, label; at most"):
            index({"path": names, "label": ["a"] * 3000})


def test_paths_that_links_lead_out_of_the_root_are_refused(
    index: Callable[..., Dataset], root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "data outside"  # begins like the root
    outside.mkdir()
    (outside / "x.png").write_bytes((root / "one.png").read_bytes())
    (root / "folder").symlink_to(outside)
    (root / "file.png").symlink_to(outside / "x.png")
    (root / "inside.png").symlink_to("deep/three.png")
    (root / "deep/up").symlink_to("..")
    for path in ("folder/x.png", "file.png", "folder/none.png"):
        with pytest.raises(DataError, match=rf"line 3 has path='{path}', which leads to '.*', outside of data.root="):
            index(lines("one.png,a", f"{path},b"))
    dataset = index(lines("one.png,a", "inside.png,b", "deep/up/two.png,b"))
    assert dataset.samples.sample_ids == ("deep/up/two.png", "inside.png", "one.png")


def test_a_root_may_itself_be_a_link(index: Callable[..., Dataset], root: Path, tmp_path: Path) -> None:
    expected = index(lines(*GOOD)).fingerprint
    (tmp_path / "link").symlink_to(root)
    data = DataConfig(root=str(tmp_path / "link"), labels="labels.csv", cache_dir=str(tmp_path / "cache"))
    assert index_folder(data, Readers(DECODE, HEADER)).fingerprint == expected


def test_missing_files_are_unreadable_ones(index: Callable[..., Dataset], root: Path) -> None:
    (root / "link.png").symlink_to("nowhere.png")
    table = lines(*GOOD, "gone.png,dent", "deep,good", "link.png,good", "none/x.png,dent")
    with pytest.raises(DataError) as raised:
        index(table)
    head, *found = str(raised.value).splitlines()
    assert head.startswith(f"4 of 7 images in {root / 'labels.csv'} cannot be read")
    assert found == [
        "  'deep': no regular file",
        "  'gone.png': No such file or directory",
        "  'link.png': broken link: No such file or directory",
        "  'none/x.png': No such file or directory",
    ]
    dataset = index(table, on_unreadable="skip")
    assert len(dataset) == 3
    assert [sample_id for sample_id, _ in dataset.unreadable] == ["deep", "gone.png", "link.png", "none/x.png"]


def test_a_class_of_missing_files_is_an_error(index: Callable[..., Dataset]) -> None:
    with pytest.raises(DataError, match=r"class 'dent' has no training image; repair.*\n  'gone.png'"):
        index(lines("one.png,good", "gone.png,dent"), on_unreadable="skip")


def test_the_fingerprint_is_of_labels_splits_and_groups(index: Callable[..., Dataset]) -> None:
    header = "path,label,split,group"
    first = index(lines("one.png,a,train,", "two.png,b,train,g", "five.png,a,val,", header=header))
    again = index(lines("five.png,a,val,", "two.png,b,train,g", "one.png,a,train,", header=header))
    assert again.fingerprint == first.fingerprint
    others = [
        lines("one.png,b,train,", "two.png,b,train,g", "five.png,a,val,", header=header).replace(
            "two.png,b", "two.png,a"
        ),
        lines("one.png,a,train,", "two.png,b,train,h", "five.png,a,val,", header=header),
        lines("one.png,a,train,g", "two.png,b,train,", "five.png,a,val,", header=header),
        lines("one.png,a,train,", "two.png,b,train,g", "five.png,a,test,", header=header),
        lines("one.png,a", "two.png,b", "five.png,a"),
        lines("one.png,a", "two.png,b"),
    ]
    assert len({first.fingerprint, *(index(other).fingerprint for other in others)}) == 1 + len(others)
