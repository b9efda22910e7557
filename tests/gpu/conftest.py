"""What GPU tests share: the device, kernels that repeat themselves, and the data pipeline's files."""

from collections.abc import Iterator

import pytest
import torch

from tests.unit.data_pipeline.conftest import assert_close, decode, photographs, samples_in, small_photos

__all__ = ["assert_close", "decode", "photographs", "samples_in", "small_photos"]


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """The first GPU; the test is skipped where there is none."""
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA GPU")
    return torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def worker_kernels() -> Iterator[None]:
    """cuDNN as `ray_jobs.training.worker` sets it, and fp32 without TF32, as a comparison with the CPU needs."""
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, products.allow_tf32)
    cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, products.allow_tf32 = False, True, False, False
    yield
    cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, products.allow_tf32 = before
