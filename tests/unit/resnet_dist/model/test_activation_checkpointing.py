"""Recomputed blocks: the same numbers to the bit from less kept memory."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from resnet_dist.model.activation_checkpointing import checkpoint_blocks
from resnet_dist.model.architectures import Arch
from resnet_dist.model.config import Policies
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from resnet_dist.model.trunk import Suffix, split
from resnet_dist.training.batch_norm import RunningStatistics

torch.set_num_threads(1)

BN_FROZEN: Policies = ("frozen", "bn_frozen", "trainable", "bn_frozen", "trainable")


def images(count: int = 4, seed: int = 1) -> torch.Tensor:
    made = torch.randn((count, 3, 32, 32), generator=torch.Generator().manual_seed(seed))
    return made.to(memory_format=torch.channels_last)


def learnt(
    arch: Arch, chosen: Policies | int, autocast: bool, prepare: Callable[[Suffix], nn.Module]
) -> dict[str, torch.Tensor]:
    """All that two steps of two microbatches give: logits, gradients, BatchNorm's buffers, weights."""
    model = build_model(Structure(arch, squeeze_excite=True), 3, 0.0, seed=0)
    model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    trunk, suffix = split(model, chosen)
    suffix.train()
    statistics = RunningStatistics(suffix)
    wrapped = prepare(suffix)
    optimizer = torch.optim.SGD([value for value in suffix.parameters() if value.requires_grad], lr=0.05)
    found: dict[str, torch.Tensor] = {}
    for step in range(2):
        seen: list[torch.Tensor] = []
        with statistics.of_microbatches():
            for part in range(2):
                batch = images(seed=10 * step + part)
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                    logits = wrapped(batch if trunk is None else trunk(batch), torch.full((1,), 1.25))
                nn.functional.cross_entropy(logits.float(), torch.arange(4) % 3).backward()
                seen.append(statistics.read())
                found[f"logits {step} {part}"] = logits.detach()
                found[f"statistics {step} {part}"] = seen[-1]
        statistics.update(torch.stack(seen).mean(0), torch.tensor(False))
        for name, value in suffix.named_parameters():
            if value.requires_grad:
                assert value.grad is not None
                found[f"gradient {step} {name}"] = value.grad.clone()
        optimizer.step()
        optimizer.zero_grad()
    return found | model.state_dict()


def plain(suffix: Suffix) -> nn.Module:
    return suffix


def checkpointed(suffix: Suffix) -> nn.Module:
    checkpoint_blocks(suffix)
    return suffix


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert not [name for name, value in expected.items() if not torch.equal(found[name], value)]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("chosen", [0, 3, 5, BN_FROZEN], ids=str)
def test_everything_is_the_same_to_the_bit(chosen: Policies | int, autocast: bool) -> None:
    expected = learnt("resnet18", chosen, autocast, plain)
    assert_same(learnt("resnet18", chosen, autocast, checkpointed), expected)
    counters = [int(value) for name, value in expected.items() if name.endswith("num_batches_tracked")]
    assert set(counters) <= {0, 2}  # one a step, however often a layer ran


@pytest.mark.slow
def test_bottlenecks_too() -> None:
    assert_same(learnt("resnet50", 3, False, checkpointed), learnt("resnet50", 3, False, plain))


@pytest.mark.slow
def test_under_distributed_data_parallel(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        found = learnt("resnet18", 2, False, lambda suffix: DistributedDataParallel(checkpointed(suffix)))
        expected = learnt("resnet18", 2, False, lambda suffix: DistributedDataParallel(plain(suffix)))
    finally:
        torch.distributed.destroy_process_group()
    assert_same(found, expected)


def test_less_is_kept_and_blocks_run_twice_in_training_only() -> None:
    kept: list[int] = []
    runs: list[list[str]] = []
    for prepare in (plain, checkpointed):
        model = build_model(Structure("resnet18"), 3, 0.0, seed=0)
        _, suffix = split(model, 0)
        prepare(suffix.train())
        seen: list[str] = []
        model.layer2[0].conv1.register_forward_hook(lambda *_, seen=seen: seen.append("train"))
        size = 0

        def pack(value: torch.Tensor) -> torch.Tensor:
            nonlocal size
            size += value.numel()
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            logits = suffix(images())
        kept.append(size)
        logits.sum().backward()
        runs.append(seen.copy())
        seen.clear()
        with torch.no_grad():
            suffix(images())
        suffix.eval()(images()).sum().backward()
        assert len(seen) == 2
    print(f"numbers kept: {kept[0]} plain, {kept[1]} checkpointed")
    assert kept[1] < kept[0] / 2
    assert [len(each) for each in runs] == [1, 2]


def test_no_name_changes_and_twice_is_once() -> None:
    model = build_model(Structure("resnet18"), 3, 0.0, seed=0)
    _, suffix = split(model, 2)
    names, whole = list(suffix.state_dict()), list(model.state_dict())
    checkpoint_blocks(suffix)
    checkpoint_blocks(suffix)
    assert list(suffix.state_dict()) == names
    assert list(model.state_dict()) == whole
    copied = copy.deepcopy(suffix).train()
    features = torch.randn((2, 64, 8, 8), generator=torch.Generator().manual_seed(0))
    copied(features).sum().backward()
    assert all(value.grad is not None for value in copied.parameters())
    assert all(value.grad is None for value in suffix.parameters())
