"""The bytes of one stored tensor: a fixed header, then its numbers as they lie in memory."""

import struct
import zlib
from collections.abc import Sequence
from typing import cast

import torch

_MAGIC = b"RDFEAT01"
_CHECKED = struct.Struct("<8sI4x")
"""Magic and the CRC-32 of all that follows."""
_LAYOUT = struct.Struct("<BBBx4x8q8q")
"""Type of the numbers in the file, type of the tensor, dimensions, shape, strides."""
_MOST_DIMENSIONS = 8
_HEADER_BYTES = 256
"""So that what follows is aligned as vector instructions like it."""
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def pack(tensor: torch.Tensor, kept: torch.dtype) -> tuple[bytes, memoryview]:
    """Header and body of a floating-point tensor on the CPU, its numbers rounded to `kept`.

    Strides are kept where the tensor is dense; any other becomes contiguous. Raises ValueError for other tensors.
    """
    if tensor.dtype not in _DTYPES or kept not in _DTYPES or tensor.ndim > _MOST_DIMENSIONS:
        raise ValueError(f"a tensor of {tensor.dtype} with {tensor.ndim} dimensions, kept as {kept}, cannot be stored")
    if not _is_dense(tensor.shape, tensor.stride()):
        tensor = tensor.contiguous()
    body = _flat(tensor).to(kept).view(torch.uint8).numpy().data
    layout = _LAYOUT.pack(
        _DTYPES.index(kept), _DTYPES.index(tensor.dtype), tensor.ndim, *_padded(tensor.shape), *_padded(tensor.stride())
    ).ljust(_HEADER_BYTES - _CHECKED.size, b"\0")
    return _CHECKED.pack(_MAGIC, zlib.crc32(body, zlib.crc32(layout))) + layout, body


def unpack(data: memoryview) -> torch.Tensor:
    """The tensor that `pack` was given, in memory of its own with the same type and strides.

    Raises ValueError for bytes that are not whole, changed, or of something else.
    """
    layout, body = data[_CHECKED.size : _HEADER_BYTES], data[_HEADER_BYTES:]
    if len(data) < _HEADER_BYTES or _CHECKED.unpack(data[: _CHECKED.size]) != (
        _MAGIC,
        zlib.crc32(body, zlib.crc32(layout)),
    ):
        raise ValueError("no stored tensor, or a damaged one")
    kept, own, dimensions, *numbers = cast("tuple[int, ...]", _LAYOUT.unpack(layout[: _LAYOUT.size]))
    shape, strides = numbers[:dimensions], numbers[_MOST_DIMENSIONS : _MOST_DIMENSIONS + dimensions]
    tensor = torch.empty_strided(shape, strides, dtype=_DTYPES[own])
    if tensor.numel():
        _flat(tensor).copy_(torch.frombuffer(body, dtype=_DTYPES[kept]))
    return tensor


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """A dense tensor's numbers in the order in which they lie in memory."""
    return tensor.detach().as_strided((tensor.numel(),), (1,))


def _is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether each place in memory, from the first to the last, holds exactly one number."""
    expected = 1
    for stride, size in sorted((stride, size) for size, stride in zip(shape, strides, strict=True) if size != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def _padded(numbers: Sequence[int]) -> list[int]:
    return [*numbers, *[0] * (_MOST_DIMENSIONS - len(numbers))]
