"""The section that times the trained network answering: eager, compiled and exported, in bf16."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import nn

from benchmarks.gpu_measuring import (
    Makers,
    Row,
    Settings,
    Switches,
    Turns,
    Variant,
    compiled,
    compiler_lacks,
    synchronize,
    take_turns,
)
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from resnet_dist.model.trunk import split

LATENCY_REFERENCE = "H100 0.42 (TensorRT int8)"
THROUGHPUT_REFERENCE = "H100 91,800 (MLPerf offline, int8)"
INT8_REASON = "skipped: the library exports no int8 network yet, and there is no int8 runtime for this card in it"
TOLERANCE = 0.05
"""Largest difference from eager logits over the largest logit: bf16 keeps 8 bits, and fusing rounds elsewhere."""

Answer = Callable[[torch.Tensor], torch.Tensor]

_FASTEST = Switches(deterministic=False)


class Folded(nn.Module):
    """The whole network with its BatchNorm folded: the trunk at the deepest freeze depth, then the head."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        trunk, suffix = split(build_model(Structure(settings.arch), 1000, 0.0, seed=0).eval(), 5)
        assert trunk is not None
        self.trunk, self.suffix = trunk, suffix

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [B, 1000] of images [B, 3, height, width]."""
        return self.suffix(self.trunk(images))


def inference(settings: Settings) -> Iterator[Row]:
    """Latency of one image and the best throughput, by form."""
    lacks, gpu = compiler_lacks(settings), settings.device.type == "cuda"
    network = Folded(settings).requires_grad_(False).eval()
    network.to(device=settings.device, dtype=torch.bfloat16, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    with tempfile.TemporaryDirectory(prefix="rd-gpu-") as scratch:
        forms: dict[str, tuple[Callable[[torch.Tensor], Answer], str]] = {
            "eager": (lambda _: network, ""),
            "compiled": (lambda _: compiled(settings, network), lacks),
            "compiled, CUDA graphs": (
                lambda _: compiled(settings, network, mode="reduce-overhead"),
                lacks or ("" if gpu and settings.compiler == "inductor" else "skipped: CUDA graphs need a GPU"),
            ),
            ".pt2": (lambda images: _exported(network, images, Path(scratch)), ""),
            "AOTInductor": (
                lambda images: _ahead_of_time(network, images, Path(scratch)),
                lacks or ("" if settings.compiler == "inductor" else "skipped: --compiler is not inductor"),
            ),
        }
        batches = {batch: _images(settings, batch) for batch in (1, *settings.batches)}
        eager = {batch: _answer(network, images) for batch, images in batches.items()}
        latencies: dict[str, list[np.ndarray]] = {}
        makers: Makers = {}
        for name, (make, reason) in forms.items():
            if reason:
                continue
            for batch, images in batches.items():
                latencies[_key(name, batch)] = []
                kept = latencies[_key(name, batch)] if batch == 1 else None
                makers[_key(name, batch)] = partial(_variant, settings, make, images, eager[batch], kept)
        found = take_turns(settings, makers)
    for name, (_, reason) in forms.items():
        turns = found.get(_key(name, 1), Turns(problem=reason))
        # The warm-up and the untimed step of each turn have been written down too.
        by_turn = latencies.get(_key(name, 1), [])
        for percentile in (50, 99):
            values = [float(np.percentile(calls, percentile)) * 1e3 for calls in _timed(settings, by_turn)]
            yield turns.row(f"{name}, batch 1, p{percentile}", "ms", values, LATENCY_REFERENCE)
        yield _best(settings, name, found, reason)
    yield Row("int8, batch 1 and best batch", None, "", note=INT8_REASON)


def _best(settings: Settings, name: str, found: dict[str, Turns], reason: str) -> Row:
    """The batch with the highest median throughput."""
    rows = []
    for batch in settings.batches:
        turns = found.get(_key(name, batch), Turns(problem=reason))
        speeds = [batch / seconds for seconds in turns.seconds]
        rows.append(turns.row(f"{name}, batch {batch}", "images/s", speeds, THROUGHPUT_REFERENCE))
    best = max(rows, key=lambda row: row.value or 0.0)
    broken = next((row for row in rows if row.failed), None)
    return best if broken is None or best.failed else replace(best, failed=True, note=f"{broken.what} {broken.note}")


def _variant(
    settings: Settings,
    make: Callable[[torch.Tensor], Answer],
    images: torch.Tensor,
    expected: torch.Tensor,
    latencies: list[np.ndarray] | None,
) -> Variant:
    """A call on `images`; many calls one by one, each waited for, where their `latencies` are kept."""
    answer = make(images)
    difference = float((_answer(answer, images) - expected).abs().max() / expected.abs().max())
    if not difference <= TOLERANCE:
        raise ValueError(f"its logits differ from eager ones by {difference:.3g} of the largest, over {TOLERANCE}")
    if latencies is None:
        return Variant(lambda: _call(answer, images), _FASTEST)
    count = 3 if settings.tiny else 200

    def one_by_one() -> None:
        seconds = np.empty(count)
        for position in range(count):
            start = perf_counter()
            _call(answer, images)
            synchronize(settings.device)
            seconds[position] = perf_counter() - start
        latencies.append(seconds)

    return Variant(one_by_one, _FASTEST)


def _timed(settings: Settings, calls: list[np.ndarray]) -> list[np.ndarray]:
    """The timed calls by turn: a turn is one untimed step, then the timed ones."""
    turns = calls[settings.warm_up :]
    length = 1 + settings.steps
    return [np.concatenate(turns[start + 1 : start + length]) for start in range(0, len(turns), length)]


@torch.no_grad()
def _call(answer: Answer, images: torch.Tensor) -> torch.Tensor:
    return answer(images)


def _answer(answer: Answer, images: torch.Tensor) -> torch.Tensor:
    return _call(answer, images).float().clone()


def _exported(network: nn.Module, images: torch.Tensor, scratch: Path) -> Answer:
    """The network written as .pt2 and read back."""
    file = scratch / f"{len(images)}.pt2"
    with torch.no_grad():
        torch.export.save(torch.export.export(network, (images,)), file)
    return torch.export.load(file).module()


def _ahead_of_time(network: nn.Module, images: torch.Tensor, scratch: Path) -> Answer:
    """The network compiled to a shared library and loaded again."""
    with torch.no_grad():
        program = torch.export.export(network, (images,))
    file = torch._inductor.aoti_compile_and_package(program, package_path=str(scratch / f"{len(images)}-aoti.pt2"))
    return torch._inductor.aoti_load_package(file)


def _images(settings: Settings, batch: int) -> torch.Tensor:
    """bf16 images [batch, 3, size, size], channels_last, as a served network is given them."""
    generator = torch.Generator(settings.device).manual_seed(0)
    shape = (batch, 3, settings.image_size, settings.image_size)
    images = torch.randn(shape, generator=generator, device=settings.device, dtype=torch.bfloat16)
    return images.to(memory_format=torch.channels_last)


def _key(name: str, batch: int) -> str:
    return f"{name} {batch}"
