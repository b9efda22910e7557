from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import StorageError
from cluster.health import marks as shared_storage
from cluster.health.marks import Mark, name_of, outsiders, unseen

NAMES = ["a", "b", "c", "d", "e", "f"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_storage, "_SEEN_WITHIN_S", 0.0)


@pytest.mark.usefixtures("impatient")
def test_marks_are_seen_by_all_and_nothing_of_them_is_left(tmp_path: Path) -> None:
    root = tmp_path / "not" / "yet"
    marks = [Mark(str(root), "token", owner) for owner in "ab"]
    for mark in marks:
        mark.write()
    assert unseen(str(root), "token", "ab") == {}
    missing = unseen(str(root), "token", "abc")
    assert list(missing) == ["c"]
    assert "there is no such file" in missing["c"]
    assert list(unseen(str(root), "other", "a")) == ["a"]
    (root / name_of("token", "b")).write_bytes(b"else")
    assert "other bytes" in unseen(str(root), "token", "ab")["b"]
    for mark in marks:
        mark.remove()
    for mark in marks:
        mark.remove_folders()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_others_use_by_now_stays(tmp_path: Path) -> None:
    mark = Mark(str(tmp_path / "root"), "token", "a")
    mark.write()
    (tmp_path / "root" / "run").mkdir()
    mark.remove()
    mark.remove_folders()
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["run"]


def test_a_root_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file"):
        Mark(str(tmp_path / "file" / "root"), "token", "a").write()


@given(st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_those_who_share_nothing_with_the_most_are_outside(places: list[int]) -> None:
    """Machines that see one of three storages each."""
    where = dict(zip(NAMES, places, strict=False))
    blind = {name: [other for other in where if where[other] != where[name]] for name in where}
    found = outsiders(blind)
    sizes = sorted((places.count(place) for place in set(places)), reverse=True)
    if len(sizes) > 1 and sizes[0] == sizes[1]:
        assert set(found) == set(where)
    else:
        most = max(set(places), key=places.count)
        assert set(found) == {name for name in where if where[name] != most}
    for name, others in found.items():
        assert others == [other for other in where if where[other] != where[name]]


def test_one_that_only_reads_nobody_is_outside_alone() -> None:
    assert outsiders({"a": [], "b": [], "c": ["a", "b"]}) == {"c": ["a", "b"]}
    assert outsiders({"a": ["c"], "b": ["c"], "c": []}) == {"c": ["a", "b"]}
    assert outsiders({"a": ["b"], "b": []}) == {"a": ["b"], "b": ["a"]}
    assert outsiders({}) == {}
