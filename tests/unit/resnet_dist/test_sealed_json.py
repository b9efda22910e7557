"""JSON files that hold their own SHA-256."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_dist.errors import RunError
from resnet_dist.plain_json import json_object
from resnet_dist.sealed_json import sealed, unsealed, unsealed_if_sealed

NUMBERS = st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | NUMBERS | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text().filter(lambda key: key != "sha256"), PLAIN, max_size=4)
NO_OBJECTS = [
    b"",
    b"{",
    b"\xff",
    b"3",
    b"[]",
    b"null",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"a": ' + b"9" * 5000 + b"}",
]


@given(OBJECTS)
def test_what_was_sealed_is_read(value: dict[str, Any]) -> None:
    assert unsealed(sealed(value)) == unsealed_if_sealed(sealed(value)) == value
    assert unsealed_if_sealed(json.dumps(value).encode()) == value


@given(OBJECTS, st.data())
def test_any_changed_byte_is_detected(value: dict[str, Any], data: st.DataObject) -> None:
    whole = sealed(value)
    place, other = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
    changed = whole[:place] + bytes([whole[place] ^ other]) + whole[place + 1 :]
    with pytest.raises(ValueError, match=r"hash does not fit|not JSON|no object"):
        unsealed(changed)
    with pytest.raises(ValueError, match=r"hash does not fit|not JSON|no object"):
        unsealed(whole[:place])


@pytest.mark.parametrize("data", [*NO_OBJECTS, b'{"a": NaN}', b'{"a": 1e999}'])
def test_what_is_no_such_file_is_one_kind_of_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        unsealed(data)


@pytest.mark.parametrize("data", NO_OBJECTS)
def test_what_is_no_object_is_named_with_a_remedy(data: bytes) -> None:
    with pytest.raises(RunError, match=r"^place cannot be read: .*; remedy$") as refused:
        json_object(data, "place", "remedy")
    assert len(str(refused.value)) < 300
