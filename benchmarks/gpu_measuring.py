"""How `benchmarks/gpu.py` measures: settings, rows of its table, and variants that take turns."""

import gc
import importlib.util
import os
import shutil
import statistics
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import torch

from resnet_dist.model.architectures import Arch


class SkippedError(Exception):
    """A section that this machine or these arguments cannot measure, with the reason."""


@dataclass(frozen=True)
class Settings:
    """What is measured, and with how much patience."""

    device: torch.device
    tiny: bool
    repeats: int
    """Turns of each variant; a figure is their median."""
    steps: int
    """Timed steps in a turn."""
    warm_up: int
    """Steps before the first turn: kernels are chosen, memory allocated, code compiled."""
    arch: Arch
    image_size: int
    """Pixels."""
    batches: tuple[int, ...]
    """Images a step, where the best batch is looked for."""
    batch: int
    """Images a step, where something else is compared."""
    compiler: Literal["inductor", "aot_eager"]
    """torch.compile's backend; aot_eager only traces, to find mistakes in seconds."""
    images: Path | None
    """A folder of JPEGs, flat or of class folders."""
    threads: int
    """DALI's CPU threads, and torchvision's worker processes."""


@dataclass(frozen=True)
class Row:
    """One figure of the table."""

    what: str
    value: float | None
    """The median over the repeats; None where there is no figure, and `note` says why."""
    unit: str
    reference: str = ""
    """What others measured or a model predicts, with its source; empty where there is none."""
    met: bool | None = None
    """Whether the figure reaches the reference; None where that is no question."""
    note: str = ""
    repeats: tuple[float, ...] = ()
    failed: bool = False
    """The measurement broke; without memory or a compiler it is not broken."""


@dataclass(frozen=True)
class Switches:
    """Process-wide settings of a variant. The defaults are those of a training worker (`ray_jobs.training.worker`)."""

    deterministic: bool = True
    """cuDNN's deterministic kernels, chosen by heuristics; else the fastest after trying them all."""
    tf32_convolutions: bool = True
    """torch's default."""
    tf32_products: bool = False
    """torch's default."""

    def apply(self) -> None:
        """Make them the process's."""
        torch.backends.cudnn.deterministic = self.deterministic
        torch.backends.cudnn.benchmark = not self.deterministic
        torch.backends.cudnn.allow_tf32 = self.tf32_convolutions
        torch.backends.cuda.matmul.allow_tf32 = self.tf32_products


@dataclass(frozen=True)
class Variant:
    """Something to be timed against others."""

    step: Callable[[], object]
    switches: Switches = field(default_factory=Switches)
    shared_bytes: int = 0
    """Bytes on the device that it uses and others too, such as its images."""


@dataclass
class Turns:
    """What the turns of a variant gave."""

    seconds: list[float] = field(default_factory=list)
    """Of one step, by turn."""
    peak_bytes: list[int] = field(default_factory=list)
    """Largest device memory of a step, with what it holds between steps; by turn. Empty on a CPU."""
    problem: str = ""
    """Why there are no turns, or no more."""
    broken: bool = False

    @property
    def median(self) -> float:
        """Seconds of a step."""
        return statistics.median(self.seconds)

    def over(self, other: "Turns") -> list[float]:
        """By turn: how many times as fast this one was as the other."""
        return [theirs / own for own, theirs in zip(self.seconds, other.seconds, strict=True)]

    def row(self, what: str, unit: str, values: list[float] | None = None, reference: str = "") -> Row:
        """A row of the median of `values`, or the problem instead."""
        if self.problem:
            return Row(what, None, unit, reference, note=self.problem, failed=self.broken)
        if not values:
            return Row(what, None, unit, reference, note="no figure on a CPU")
        return Row(what, statistics.median(values), unit, reference, repeats=tuple(values))

    def ratio(self, what: str, over: "Turns", reference: str = "") -> Row:
        """A row of how many times as fast this one was as the other, or of what kept either from being measured."""
        culprit = self if self.problem else over
        return culprit.row(what, "x", [] if culprit.problem else self.over(over), reference)


Makers = dict[str, Callable[[], Variant]]


def take_turns(settings: Settings, makers: Makers) -> dict[str, Turns]:
    """Make every variant, then time them in alternation, so that a slow moment of the machine meets all of them.

    A variant that runs out of memory or breaks says so in its `problem`, and the others go on.
    """
    found = {name: Turns() for name in makers}
    ready: dict[str, tuple[Variant, int]] = {}
    for name, make in makers.items():
        with _recorded(settings, found[name]):
            ready[name] = _ready(settings, make)
    for _ in range(settings.repeats):
        for name in list(ready):
            with _recorded(settings, found[name]):
                _turn(settings, *ready[name], found[name])
            if found[name].problem:
                del ready[name]
                release(settings.device)
    return found


def _ready(settings: Settings, make: Callable[[], Variant]) -> tuple[Variant, int]:
    """A variant that has warmed up, and the bytes that it holds between steps."""
    before = _allocated(settings.device)
    variant = make()
    variant.switches.apply()
    for _ in range(settings.warm_up):
        variant.step()
    synchronize(settings.device)
    return variant, _allocated(settings.device) - before + variant.shared_bytes


def _turn(settings: Settings, variant: Variant, held: int, turns: Turns) -> None:
    device = settings.device
    variant.switches.apply()
    variant.step()  # the allocator's cache is full of another variant's sizes
    synchronize(device)
    before = _allocated(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = perf_counter()
    for _ in range(settings.steps):
        variant.step()
    synchronize(device)
    seconds = (perf_counter() - start) / settings.steps
    if device.type == "cuda":
        turns.peak_bytes.append(torch.cuda.max_memory_allocated(device) - before + held)
    turns.seconds.append(seconds)


@contextmanager
def _recorded(settings: Settings, turns: Turns) -> Generator[None]:
    """A problem becomes a line. What it held is freed: by then nothing refers to the failed call's frames."""
    try:
        yield
    except torch.OutOfMemoryError:
        turns.problem = "out of memory"
    except Exception as error:  # a variant that cannot run must not cost the others' figures
        turns.problem, turns.broken = f"failed: {one_line(error)}", True
    if turns.problem:
        release(settings.device)


def one_line(error: Exception) -> str:
    """Class and first line of an exception."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release(device: torch.device) -> None:
    """Give unused memory back to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def gigabytes(turns: Turns) -> list[float]:
    """Peak memory by turn in GB of 10**9 bytes; none on a CPU."""
    return [number / 1e9 for number in turns.peak_bytes]


def compiler_lacks(settings: Settings) -> str:
    """Why torch.compile cannot run here; empty where it can."""
    if settings.compiler == "aot_eager":
        return ""
    if not any(map(shutil.which, (os.environ.get("CXX", "c++"), "c++", "g++", "clang++"))):
        return "skipped: no C++ compiler on PATH, which torch.compile needs"
    if settings.device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "skipped: no Triton, which torch.compile needs on a GPU"
    return ""


def compiled(settings: Settings, module: torch.nn.Module, **options: Any) -> torch.nn.Module:
    """The module under torch.compile for the very shapes it meets; a graph break is an error, not a slower figure."""
    # torch.compile is typed as a decorator of any callable.
    return torch.compile(module, dynamic=False, fullgraph=True, backend=settings.compiler, **options)  # type: ignore[return-value]


def form_name(is_compiled: bool) -> str:
    """For the table."""
    return "compiled" if is_compiled else "eager"
