"""Gradients of microbatches become one: in one process by hand, and between real ones over gloo."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from resnet_dist.training.rank_group import RankGroup
from resnet_dist.training.reduction import ExactReduction, OverlappedReduction, build_reduction

torch.set_num_threads(1)


class Network(nn.Sequential):
    """A small network that takes what a suffix takes."""

    def forward(self, features: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        assert keep is None
        return super().forward(features)


def network() -> Network:
    torch.manual_seed(0)
    layers = Network(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))
    return layers.to(memory_format=torch.channels_last)


def give_gradients(module: nn.Module, seed: int, scale: float) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    given_ = {}
    for name, parameter in module.named_parameters():
        gradient = torch.empty_like(parameter).copy_(scale * torch.randn(parameter.shape, generator=generator))
        parameter.grad = gradient
        given_[name] = gradient.clone()
    return given_


@given(
    steps=st.lists(st.lists(st.sampled_from([1e-8, 1.0, 1e8]), min_size=1, max_size=6), min_size=1, max_size=3),
    seed=st.integers(0, 1000),
)
def test_exact_sums_are_of_multiples_rounded_once(steps: list[list[float]], seed: int) -> None:
    module = network()
    reduction = ExactReduction(module, RankGroup())
    for scales in steps:  # each step starts from zero
        sums = {name: torch.zeros(value.shape, dtype=torch.float64) for name, value in module.named_parameters()}
        for position, scale in enumerate(scales):
            with reduction.microbatch(last=position == len(scales) - 1):
                gradients = give_gradients(module, seed + position, scale)
            reduction.collect(torch.ones(()))
            for name, gradient in gradients.items():
                sums[name] += torch.round(gradient.double() * 2**40) / 2**40
        reduction.finish()
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None
            assert torch.equal(parameter.grad, sums[name].float()), name
            assert parameter.grad.stride() == parameter.stride()


@given(
    order=st.permutations(range(6)),
    cut=st.integers(0, 6),
    loss_scale=st.sampled_from([1.0, 2.0**16]),
    seed=st.integers(0, 2**32 - 1),
)
def test_neither_order_nor_ranks_of_microbatches_matter_to_the_bit(
    order: list[int], cut: int, loss_scale: float, seed: int
) -> None:
    # Terms of all magnitudes, many of them just large enough to break a tie: float64 sums alone differ here.
    generator = torch.Generator().manual_seed(seed)
    module = nn.Linear(200, 20, bias=False)
    exponents = torch.randint(-60, 4, (6, *module.weight.shape), generator=generator)
    digits = torch.randint(-3, 4, (6, *module.weight.shape), generator=generator)
    gradients = (1.0 + digits * 2.0**-23) * 2.0**exponents * loss_scale

    def summed(*ranks: list[int]) -> torch.Tensor:
        whole = torch.zeros_like(module.weight, dtype=torch.float64)
        for rank in ranks:
            reduction = ExactReduction(module, RankGroup())
            for index in rank:
                module.weight.grad = gradients[index].clone()
                reduction.collect(torch.tensor(loss_scale))
            whole += reduction.total.view_as(whole)
        return whole

    assert torch.equal(summed(order[:cut], order[cut:]), summed(list(range(6))))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_parameter_larger_than_a_cache_is_summed_number_by_number(layout: torch.memory_format) -> None:
    """In memory order where the gradient is laid out as the parameter, and as a whole where it is not."""
    module = nn.Conv2d(129, 257, 3, bias=False).to(memory_format=torch.channels_last)
    assert module.weight.numel() > 2 * 128 * 1024
    reduction = ExactReduction(module, RankGroup())
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):  # the first step leaves zeros behind
        gradients = [1e-5 * torch.randn(module.weight.shape, generator=generator) for _ in range(2)]
        for gradient in gradients:
            module.weight.grad = gradient.to(memory_format=layout)
            reduction.collect(torch.ones(()))
        reduction.finish()
        sums = sum(torch.round(gradient.double() * 2**40) / 2**40 for gradient in gradients)
        assert torch.equal(module.weight.grad, torch.as_tensor(sums).float())
        assert not bool(reduction.total.any())


def test_what_got_no_gradient_or_none_at_all_sums_to_zero() -> None:
    module = network()
    reduction = ExactReduction(module, RankGroup())
    gradients = give_gradients(module, 0, 1.0)
    module[0].weight.grad = None
    reduction.collect(torch.ones(()))
    assert all(parameter.grad is None for parameter in module.parameters())
    reduction.finish()
    assert not bool(module[0].weight.grad.any())
    assert torch.equal(module[3].bias.grad, gradients["3.bias"])
    reduction.idle()
    reduction.finish()
    assert not any(bool(parameter.grad.any()) for parameter in module.parameters())


def test_frozen_parameters_are_left_alone() -> None:
    module = network()
    module[0].requires_grad_(False)
    reduction = ExactReduction(module, RankGroup())
    for parameter in module.parameters():
        parameter.grad = None
    reduction.finish()
    assert module[0].weight.grad is None
    assert module[3].weight.grad is not None


def test_overlapped_in_one_process_is_the_module_itself() -> None:
    module = network()
    buffers = {name: value.clone() for name, value in module.named_buffers()}
    reduction = build_reduction("overlapped", module, RankGroup(), lambda: torch.ones(2, 3, 8, 8))
    assert isinstance(reduction, OverlappedReduction)
    assert reduction.module is module
    assert reduction.weight == 1.0
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(torch.equal(value, buffers[name]) for name, value in module.named_buffers())


def test_exact_sums_ask_for_no_idle_features() -> None:
    def costly() -> torch.Tensor:
        raise AssertionError("a pass through the frozen stages that nobody needs")

    assert isinstance(build_reduction("exact", network(), RankGroup(), costly), ExactReduction)


RANK = """
import sys
import torch
import torch.distributed as dist
from torch import nn
from resnet_dist.training.rank_group import RankGroup
from resnet_dist.training.reduction import build_reduction


class Suffix(nn.Module):
    # Registered in another order than used, and too large for one of DDP's buckets: it lays them out anew.
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.second, self.third = nn.Linear(700, 700), nn.Linear(700, 700)
        self.first, self.norm, self.last = nn.Linear(16, 700), nn.BatchNorm1d(700), nn.Linear(700, 3)

    def forward(self, features, keep):
        return self.last(self.third(self.second(self.norm(self.first(features)).relu()).relu()).relu())


rank, world_size, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
if world_size > 1:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world_size)
group = RankGroup(rank, world_size)
features = torch.randn((5, 4, 16), generator=torch.Generator().manual_seed(0))
found = {}
for kind, counts in (("exact", (5, 2)), ("overlapped", (5, 2, 5))):
    suffix = Suffix()
    reduction = build_reduction(kind, suffix, group, lambda: torch.zeros((2, 16)))
    before = {name: value.clone() for name, value in suffix.named_buffers()}
    for number, count in enumerate(counts):
        mine = range(rank, count, world_size)
        for position, index in enumerate(mine):
            with reduction.microbatch(last=position == len(mine) - 1):
                (reduction.module(features[index], None).square().sum() * (reduction.weight / count)).backward()
            reduction.collect(torch.ones(()))
        if not mine:
            reduction.idle()
            found[f"{kind} idle"] = all(torch.equal(v, before[n]) for n, v in suffix.named_buffers())
        reduction.finish()
        for name, parameter in suffix.named_parameters():
            found[f"{kind} {number} {name}"] = parameter.grad.clone()
            parameter.grad = None
        for name, value in suffix.named_buffers():
            value.copy_(before[name])
torch.save(found, f"{folder}/{rank}.pt")
if world_size > 1:
    dist.destroy_process_group()
"""
PARAMETERS = 10


@pytest.fixture(scope="module")
def by_world_size(
    tmp_path_factory: pytest.TempPathFactory, run_ranks: Callable[..., list[dict[str, Any]]]
) -> dict[int, list[dict[str, Any]]]:
    """What each of one and of three processes gets from steps of 5, 2 and (overlapped) the same 5 microbatches."""
    folder = tmp_path_factory.mktemp("ranks")
    return {world_size: run_ranks(RANK, world_size, folder / str(world_size)) for world_size in (1, 3)}


def gradients(found: dict[str, Any], start: str) -> dict[str, torch.Tensor]:
    """Those of a kind, or of one of its steps, by the rest of their names."""
    return {
        name.removeprefix(start): value
        for name, value in found.items()
        if name.startswith(start) and "idle" not in name
    }


def test_exact_gradients_are_the_same_to_the_bit_at_any_number_of_processes(
    by_world_size: dict[int, list[dict[str, Any]]],
) -> None:
    expected = gradients(by_world_size[1][0], "exact ")
    assert len(expected) == 2 * PARAMETERS
    for rank, found in enumerate(by_world_size[3]):
        own = gradients(found, "exact ")
        assert own.keys() == expected.keys()
        different = [name for name, value in expected.items() if not torch.equal(own[name], value)]
        assert not different, f"rank {rank}: {different[:3]}"


def test_overlapped_gradients_are_the_same_on_all_ranks_and_close_to_exact_ones(
    by_world_size: dict[int, list[dict[str, Any]]],
) -> None:
    exact = gradients(by_world_size[1][0], "exact ")
    for ranks in by_world_size.values():
        first = gradients(ranks[0], "overlapped ")
        for found in ranks:
            assert all(torch.equal(value, first[name]) for name, value in gradients(found, "overlapped ").items())
        for name, value in exact.items():
            bound = 1e-4 * float(value.abs().max()) + 1e-7
            assert float((first[name] - value).abs().max()) <= bound, (len(ranks), name)


def test_a_rank_without_microbatches_leaves_its_statistics_alone(
    by_world_size: dict[int, list[dict[str, Any]]],
) -> None:
    idle = [rank for rank, found in enumerate(by_world_size[3]) if "overlapped idle" in found]
    assert idle == [2]
    assert by_world_size[3][2]["overlapped idle"]


def test_overlapped_steps_repeat_to_the_bit_from_the_first_on(by_world_size: dict[int, list[dict[str, Any]]]) -> None:
    for ranks in by_world_size.values():
        first, second = (gradients(ranks[0], f"overlapped {number} ") for number in (0, 2))
        assert len(first) == PARAMETERS
        assert all(torch.equal(second[name], value) for name, value in first.items())
