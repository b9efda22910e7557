"""An ONNX file, read far enough to tell whether its tensors lie in it: the runtime would take others from any folder.

ONNX is a protocol buffer (https://protobuf.dev/programming-guides/encoding/); the messages and their numbers are those
of onnx.proto. A production machine does not have the package onnx.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from resnet_dist.runtime.errors import BundleError

MESSAGES: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "TensorProto": {},
}
"""Of each message that a tensor can lie in: the fields that lead there, and what each holds."""

_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14
_EIGHT_BYTES, _BYTES = 1, 2


def require_own_data(model: bytes, place: str) -> None:
    """Raise BundleError for an ONNX file that is damaged, or has a tensor whose values lie in another file."""
    try:
        name = _external_tensor(memoryview(model))
    except _DamagedError as error:
        raise BundleError(f"{place} is no ONNX file ({error}); get the bundle again, or export the run again") from None
    if name is not None:
        raise BundleError(
            f"{place} takes the tensor {name!r} from another file, which no hash of the bundle covers; a model holds "
            "all of its tensors: get the bundle from its source"
        )


class _DamagedError(Exception):
    """Where the bytes stop to be a message, and why."""


@dataclass(frozen=True)
class _Field:
    number: int
    kind: int
    value: int
    """Of a number; of bytes: where they begin."""
    end: int


def _external_tensor(model: memoryview) -> str | None:
    """The name of a tensor whose values lie elsewhere, None where there is none."""
    left = [("ModelProto", 0, len(model))]
    while left:
        message, begin, end = left.pop()
        known, name, is_external = MESSAGES[message], "", False
        for each in _fields(model, begin, end):
            if each.kind == _BYTES and each.number in known:
                left.append((known[each.number], each.value, each.end))
            elif message == "TensorProto":
                if each.number == _NAME and each.kind == _BYTES:
                    name = bytes(model[each.value : min(each.end, each.value + 100)]).decode("utf-8", "replace")
                # Any number but 0, and any entry of where it is: what another reader makes of both is not known.
                is_external |= each.number == _DATA_LOCATION and each.value != 0
                is_external |= each.number == _EXTERNAL_DATA
        if is_external:
            return name
    return None


def _fields(model: memoryview, at: int, end: int) -> Iterator[_Field]:
    """The fields of a message that lies in model[at:end]."""
    while at < end:
        tag, at = _varint(model, at, end)
        if not 8 <= tag < 1 << 32:  # there is no field 0; of more bits some readers would cut, and see another field
            raise _DamagedError(f"the number of a field at byte {at} is none")
        number, kind, value = tag >> 3, tag & 7, 0
        match kind:
            case 0:
                value, at = _varint(model, at, end)
                begin = at
            case 1 | 5:
                begin, at = at, at + (8 if kind == _EIGHT_BYTES else 4)
            case 2:
                length, begin = _varint(model, at, end)
                value, at = begin, begin + length
            case _:
                raise _DamagedError(f"a field at byte {at} is of kind {kind}")
        if at > end:
            raise _DamagedError(f"a field at byte {begin} is longer than what it lies in")
        yield _Field(number, kind, value, at)


def _varint(model: memoryview, at: int, end: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = 0
    for place in range(at, min(at + 10, end)):
        value |= (model[place] & 0x7F) << (7 * (place - at))
        if model[place] < 0x80:
            return value, place + 1
    raise _DamagedError(f"a number at byte {at} does not end")
