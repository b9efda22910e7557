"""Pointwise convolutions on one thread: the same function, computed as on several."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from resnet_dist.config import TrainingConfig
from resnet_dist.model.pointwise import use_onednn
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from resnet_dist.training.setup import Setup

FP32 = TrainingConfig()

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="needs torch with oneDNN on a CPU with AVX2",
)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def gradients(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    network(images).square().sum().backward()
    return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]


def convolution(stride: int, groups: int) -> nn.Module:
    made = nn.Conv2d(32, 64, 1, stride, groups=groups)
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        nn.init.normal_(parameter, generator=generator)
    return made


@needs_onednn
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 4])
def test_the_function_and_its_gradients_stay(stride: int, groups: int) -> None:
    torch.set_num_threads(1)
    images = torch.randn((3, 32, 7, 9), generator=torch.Generator().manual_seed(1))
    plain, changed = convolution(stride, groups), convolution(stride, groups)
    use_onednn(changed, FP32)
    torch.testing.assert_close(changed(images), plain(images), rtol=1e-5, atol=1e-5)
    for got, expected in zip(gradients(changed, images), gradients(plain, images), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-3)


@needs_onednn
def test_one_thread_takes_the_kernels_of_several() -> None:
    torch.set_num_threads(1)
    model = build_model(Structure("resnet50"), 5, 0.0, seed=0).eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    images = torch.randn((2, 3, 64, 64), generator=torch.Generator().manual_seed(1))
    images = images.to(memory_format=torch.channels_last)

    def kernels() -> set[str]:
        with torch.no_grad(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            model(images)
        return {event.name for event in profile.events() or [] if "conv" in event.name}

    assert "aten::thnn_conv2d" in kernels()  # torch's rule still stands; if not, `use_onednn` can go
    use_onednn(model, FP32)
    assert "aten::thnn_conv2d" not in kernels()


def test_several_threads_change_nothing() -> None:
    torch.set_num_threads(2)
    model = build_model(Structure("resnet50"), 5, 0.0, seed=0)
    use_onednn(model, FP32)
    assert {part.dilation for part in model.modules() if isinstance(part, nn.Conv2d)} == {(1, 1)}


@pytest.mark.parametrize("training", [TrainingConfig(precision="bf16"), TrainingConfig(compile=True)])
def test_what_was_not_measured_is_left_as_it_is(training: TrainingConfig) -> None:
    torch.set_num_threads(1)
    model = build_model(Structure("resnet50"), 5, 0.0, seed=0)
    use_onednn(model, training)
    assert {part.dilation for part in model.modules() if isinstance(part, nn.Conv2d)} == {(1, 1)}


@needs_onednn
def test_weights_keep_their_names_and_numbers() -> None:
    torch.set_num_threads(1)
    changed, plain = (build_model(Structure("resnet50"), 5, 0.0, seed=0) for _ in range(2))
    use_onednn(changed, FP32)
    for (name, got), (expected_name, expected) in zip(
        changed.state_dict().items(), plain.state_dict().items(), strict=True
    ):
        assert name == expected_name
        assert torch.equal(got, expected)


@needs_onednn
def test_training_has_it_in_both_parts(make_setup: Callable[..., Setup]) -> None:
    state = make_setup(model=build_model(Structure("resnet50"), 3, 0.0, seed=0), freeze_depth=3).state_at(0)
    assert state.trunk is not None
    for part in (state.trunk, state.suffix):
        pointwise = [layer for layer in part.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)]
        assert {layer.dilation for layer in pointwise} == {(2, 2)}
