"""The out-of-memory rule."""

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnet_dist.errors import RunError
from resnet_dist.training.out_of_memory import MicrobatchTooLargeError, halved, is_out_of_memory, largest_that_fits
from resnet_dist.training.rank_group import RankGroup


@given(half=st.integers(1, 600), parts=st.integers(1, 8))
def test_half_is_the_largest_even_divisor_at_most_half(half: int, parts: int) -> None:
    size, whole = 2 * half, 2 * half * parts
    fitting = [n for n in range(2, size // 2 + 1, 2) if whole % n == 0]
    if fitting:
        assert halved(size, whole) == max(fitting)
    else:
        with pytest.raises(RunError, match="no smaller even divisor"):
            halved(size, whole)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("CUDA error: out of memory"), False),
    ],
)
def test_a_lack_of_memory_is_known_by_what_torch_and_its_libraries_say(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize("room", [64, 32, 9, 2])
def test_the_size_is_halved_until_it_fits(room: int) -> None:
    tried: list[int] = []

    def attempt(size: int) -> None:
        tried.append(size)
        if size > room:
            raise torch.OutOfMemoryError("CUDA out of memory")

    found = largest_that_fits(64, 64, RankGroup(), torch.device("cpu"), attempt)
    assert found == max(size for size in (64, 32, 16, 8, 4, 2) if size <= room)
    assert tried == [size for size in (64, 32, 16, 8, 4, 2) if size >= found]


def test_where_nothing_fits_the_run_is_refused_with_a_remedy() -> None:
    def attempt(_: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(RunError, match=r"out of memory with microbatches of 2.*activation_checkpointing"):
        largest_that_fits(8, 8, RankGroup(), torch.device("cpu"), attempt)


def test_another_error_is_not_taken_for_memory() -> None:
    def attempt(_: int) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        largest_that_fits(8, 8, RankGroup(), torch.device("cpu"), attempt)


def test_the_cpus_allocator_is_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**62, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_the_error_travels_between_processes() -> None:
    assert pickle.loads(pickle.dumps(MicrobatchTooLargeError(16))).microbatch_size == 16
