"""Whatever holds a tensor of an ONNX file is looked into, and bytes that are no ONNX are refused."""

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from resnet_dist.runtime.errors import BundleError
from resnet_dist.runtime.onnx_file import MESSAGES, require_own_data
from tests.hostile_models import endless, external, model, set_external


def paths_to_tensors() -> dict[str, dict[int, str]]:
    """What onnx itself says: of each message below ModelProto, the fields below which there is a TensorProto."""
    found: dict[str, dict[int, str]] = {}
    left: list[Descriptor] = [onnx.ModelProto.DESCRIPTOR]
    known = {}
    while left:
        message = left.pop()
        if message.name not in known:
            known[message.name] = {f.number: f.message_type for f in message.fields if f.message_type is not None}
            left += known[message.name].values()
    holds = {"TensorProto"}
    while True:
        more = {name for name, fields in known.items() if {each.name for each in fields.values()} & holds}
        if more <= holds:
            break
        holds |= more
    for name in holds:
        found[name] = {number: each.name for number, each in known[name].items() if each.name in holds}
    return found


def test_every_field_that_leads_to_a_tensor_is_followed():
    assert paths_to_tensors() == MESSAGES


def places_of_tensors() -> dict[str, onnx.ModelProto]:
    """A model for each kind of place that a tensor with its values elsewhere can be in."""
    weights = numpy_helper.from_array(np.zeros(3, np.float32), "hidden")
    set_external(weights, "weights.bin")
    constant = helper.make_node("Constant", [], ["c"], value=weights)
    made = {"an initializer": external("weights.bin")}
    for name in (
        "an attribute", "a list of tensors", "a body", "a list of graphs", "a sparse attribute", "a sparse initializer",
        "a function", "a function's default", "a training",
    ):  # fmt: skip
        made[name] = endless()
    node = made["an attribute"].graph.node
    node.append(constant)
    made["a list of tensors"].graph.node[0].attribute.add().tensors.append(weights)
    made["a body"].graph.node[-1].attribute[0].g.node.append(constant)
    made["a list of graphs"].graph.node[0].attribute.add().graphs.add().initializer.append(weights)
    made["a sparse attribute"].graph.node[0].attribute.add().sparse_tensor.values.CopyFrom(weights)
    made["a sparse initializer"].graph.sparse_initializer.add().indices.CopyFrom(weights)
    made["a function"].functions.add().node.append(constant)
    made["a function's default"].functions.add().attribute_proto.add().t.CopyFrom(weights)
    made["a training"].training_info.add().algorithm.initializer.append(weights)
    return made


@pytest.mark.parametrize("place", places_of_tensors())
def test_a_tensor_elsewhere_is_found_wherever_it_is_named(place: str):
    require_own_data(endless().SerializeToString(), "here")
    with pytest.raises(BundleError, match=r"here takes the tensor '\w+' from another file"):
        require_own_data(places_of_tensors()[place].SerializeToString(), "here")


@pytest.mark.parametrize(
    "tensor",
    [
        b"\x70\x01",  # data_location: EXTERNAL
        b"\x70\x81\x80\x80\x80\x10",  # 2^32 + 1, which a reader of 32 bits takes for 1
        b"\x70\x01\x70\x00",  # said twice
        b"\x6a\x00",  # an entry of external_data
        b"\xf0\x00\x01",  # the same number, in more bytes than it needs
    ],
)
def test_no_other_spelling_hides_it(tensor: bytes):
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    with pytest.raises(BundleError, match="from another file"):
        require_own_data(b"\x3a" + bytes([len(graph)]) + graph, "here")


@pytest.mark.parametrize(
    "data",
    [
        b"not ONNX",
        b"\x3a\x05\x00",  # longer than the file
        b"\x3b",  # a group, which other readers take
        b"\x80" * 11,
        b"\xba\x80\x80\x80\x80\x01\x00",  # a number of more than 32 bits, which some readers cut
        b"\x3d\x00",
    ],
)
def test_what_is_no_message_is_refused(data: bytes):
    with pytest.raises(BundleError, match="here is no ONNX file"):
        require_own_data(data, "here")


def has_external(message: Message) -> bool:
    """What protobuf's own reader makes of it."""
    if isinstance(message, onnx.TensorProto) and message.data_location == onnx.TensorProto.EXTERNAL:
        return True
    values = [value for field, value in message.ListFields() if field.message_type is not None]
    return any(has_external(each) for value in values for each in (value if isinstance(value, Sequence) else [value]))


whole = external("weights.bin").SerializeToString()
edits = st.lists(
    st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 2), st.binary(min_size=1, max_size=4)), max_size=4
)


@given(edits)
def test_no_damage_hides_a_tensor_that_another_reader_still_takes_from_elsewhere(changes: list[tuple[int, int, bytes]]):
    data = whole
    for place, removed, added in changes:
        data = data[:place] + added + data[place + removed :]
    try:
        require_own_data(data, "here")
    except BundleError:
        return
    try:
        found = onnx.ModelProto.FromString(data)
    except DecodeError:
        return
    assert not has_external(found)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes):
    with suppress(BundleError):  # and nothing else
        require_own_data(data, "here")


def test_messages_in_messages_are_no_recursion():
    graph = b""
    for _ in range(2000):
        attribute = b"\x32" + varint(len(graph)) + graph
        node = b"\x2a" + varint(len(attribute)) + attribute
        graph = b"\x0a" + varint(len(node)) + node
    require_own_data(b"\x3a" + varint(len(graph)) + graph, "here")


def varint(value: int) -> bytes:
    made = b""
    while value > 0x7F:
        made, value = made + bytes([value & 0x7F | 0x80]), value >> 7
    return made + bytes([value])


def test_a_model_of_ours_is_let_through():
    require_own_data(model().SerializeToString(), "here")
