"""A teacher answers as its network does in evaluation mode, in tensors that autograd takes, and never changes."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_dist.compression.distillation.attention import STAGES, attention_map, map_sizes
from resnet_dist.compression.distillation.teacher import Teacher
from resnet_dist.errors import RunError
from resnet_dist.model.model_json import describe
from resnet_dist.model.resnet import ResNetClassifier, build_model
from resnet_dist.model.structure import Structure
from tests.laws import examples


def trained(**options: Any) -> ResNetClassifier:
    """A network whose BatchNorm layers have statistics of their own."""
    model = build_model(Structure("resnet18", **options), 5, 0.3, 7)
    generator = torch.Generator().manual_seed(1)
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            for value in (part.running_mean, part.bias.data):
                value.copy_(0.2 * torch.randn(value.shape, generator=generator))
            part.running_var.uniform_(0.5, 2.0, generator=generator)
    return model


def images(samples: int = 4, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.randn((samples, 3, height, width), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("gates", [False, True])
def test_it_answers_as_its_network_does_in_evaluation_mode(gates: bool) -> None:
    model = trained(squeeze_excite=gates).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    teacher = Teacher(model).train()
    answer = teacher.answer(images())
    assert answer.dtype == torch.float32
    assert not any(part.training for part in teacher.modules())
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in teacher.modules())
    with torch.no_grad():
        torch.testing.assert_close(answer, model(images()), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_autograd_takes_its_answers() -> None:
    answer = Teacher(trained(), with_maps=True).answer(images())
    assert not answer.is_inference()
    assert not answer.requires_grad
    weight = torch.ones(5, requires_grad=True)
    (weight * answer[:, :5]).sum().backward()
    torch.testing.assert_close(weight.grad, answer[:, :5].sum(0))


@settings(max_examples=examples(0.3))
@given(height=st.integers(16, 90), width=st.integers(16, 90))
def test_its_maps_follow_its_logits(height: int, width: int) -> None:
    model = trained().eval()
    answer = Teacher(model, with_maps=True).answer(images(2, height, width))
    sizes = map_sizes(height, width)
    assert answer.shape == (2, 5 + sum(sizes.values()))
    logits, *maps = torch.split(answer, [5, *(sizes[stage] for stage in STAGES)], dim=1)
    with torch.no_grad():
        features = model.maxpool(model.relu(model.bn1(model.conv1(images(2, height, width)))))
        for stage, found in zip(STAGES, maps, strict=True):
            features = model.get_submodule(stage)(features)
            torch.testing.assert_close(found, attention_map(features), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(logits, Teacher(model).answer(images(2, height, width)))


def test_its_precision_is_the_callers_and_its_answers_are_float32() -> None:
    teacher = Teacher(trained(), with_maps=True)
    with torch.autocast("cpu", torch.bfloat16):
        short = teacher.answer(images())
    exact = teacher.answer(images())
    assert short.dtype == torch.float32
    assert not torch.equal(short, exact)
    torch.testing.assert_close(short, exact, rtol=0.1, atol=0.1)


def test_it_is_rebuilt_from_a_checkpoints_files_or_refused() -> None:
    model = trained()
    rebuilt = Teacher.rebuilt(describe(model), model.state_dict())
    assert torch.equal(rebuilt.answer(images()), Teacher(model).answer(images()))
    with pytest.raises(RunError, match=r"arch='resnet17'"):
        Teacher.rebuilt({**describe(model), "arch": "resnet17"}, model.state_dict())
