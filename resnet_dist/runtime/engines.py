"""A bundle's format, loaded: uint8 images in, logits out. Torch-free."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from resnet_dist.runtime.bundle import Bundle
from resnet_dist.runtime.errors import BundleError, RuntimeMissingError, brief
from resnet_dist.runtime.loaded_model import LoadedModel, load_onnxruntime, load_openvino
from resnet_dist.runtime.model_contract import MOST_IMAGES, ModelContract
from resnet_dist.runtime.providers import Provider
from resnet_dist.runtime.time_limit import BATCH_TIMEOUT_S, OverdueError, call_within

R = TypeVar("R")


class Engine(Protocol):
    """Answers batches."""

    def __call__(self, images: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Logits [N, C] of images [N, height, width, 3], RGB, 1 <= N <= MOST_IMAGES. Raises ValueError for others."""
        ...


class PlacedEngine(Engine, Protocol):
    """Says what it computes on."""

    @property
    def runs_on(self) -> str:
        """Runtime and device, and which devices were passed over and why; for people."""
        ...


def load_engine(
    bundle: Bundle,
    name: str | None = None,
    threads: int | None = None,
    timeout_s: float = BATCH_TIMEOUT_S,
    providers: Sequence[Provider] | None = None,
) -> PlacedEngine:
    """The engine of a format, by default the bundle's first choice, on `threads` threads, by default all cores.

    ONNX formats run on the first of the providers that there is; OpenVINO's on the CPU.

    Raises BundleError for a format that is not there or was changed, whose model is not what bundle.json says, takes
    longer than `timeout_s` to load, or holds code: TorchScript and torch.export are loaded by
    `resnet_dist.export.formats.torch_engines` where that is asked for. Raises RuntimeMissingError where a package is
    not installed, or there is none of the providers. The engine raises BundleError where the model fails, or takes
    longer for a batch.
    """
    name, chosen = bundle.format(name)
    match chosen.runtime:
        case "onnxruntime" | "openvino":
            place = str(bundle.folder / chosen.files[0])
            size = None if chosen.any_size else bundle.preprocess.input_size
            contract = ModelContract(place, size, bundle.output.classes, bundle.input.name, bundle.output.name)
            files, runtime = [bundle.read(path) for path in chosen.files], chosen.runtime
            limit = _Limit(place, timeout_s)
            if runtime == "openvino" and providers is not None and "cpu" not in providers:
                raise RuntimeMissingError(
                    f"format {name!r} runs on the CPU alone, and providers are {', '.join(providers)}; name cpu, too, "
                    f"or use {_others(bundle, runtime)}"
                )
            cores = threads or usable_cores()
            try:
                engine = limit.call(
                    "load", lambda: start_engine(runtime, files, chosen.hints, contract, cores, providers)
                )
            except RuntimeMissingError as error:
                raise RuntimeMissingError(f"{error}, or use {_others(bundle, chosen.runtime)}") from error
            return _Limited(engine, limit)
        case "tensorrt":
            raise RuntimeMissingError(
                f"format {name!r} needs TensorRT and a GPU, which this runtime does not drive; load "
                f"{bundle.folder / chosen.files[0]} with TensorRT's own, or use {_others(bundle, 'tensorrt')}"
            )
        case "torch":
            raise BundleError(
                f"format {name!r} can hold code that loading it would run, so it is not loaded here; use "
                f"{_others(bundle, 'torch')}, or load it with torch yourself if you trust its source"
            )


def start_engine(
    runtime: Literal["onnxruntime", "openvino"],
    files: Sequence[bytes],
    hints: Mapping[str, str],
    contract: ModelContract,
    threads: int,
    providers: Sequence[Provider] | None = ("cpu",),
) -> "CheckedEngine":
    """The engine of a format's files.

    Raises RuntimeMissingError where OpenVINO is not installed, or there is none of the providers; BundleError for hints
    that a bundle must not give, and for files that are no model of `contract`. The engine raises BundleError where the
    model fails.
    """
    wanted = 1 if runtime == "onnxruntime" else 2
    if len(files) != wanted:
        raise BundleError(
            f"{contract.place}: {runtime} reads {wanted} files, and the format has {len(files)}; export the run again"
        )
    try:
        if runtime == "onnxruntime":
            loaded = load_onnxruntime(files[0], contract, threads, providers)
        else:
            loaded = load_openvino(files, hints, contract, threads, providers)
    except (BundleError, RuntimeMissingError):
        raise
    except Exception as error:  # runtimes raise whatever they like
        raise BundleError(
            f"{contract.place} cannot be loaded ({brief(error)}); get the bundle from its source, or export the run "
            "again"
        ) from error
    return CheckedEngine(loaded, contract)


def usable_cores() -> int:
    """Of this machine, as far as this process may use them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class CheckedEngine:
    """What goes in is checked, for OpenVINO takes floats for bytes and answers nonsense; and what comes out."""

    loaded: LoadedModel
    contract: ModelContract

    @property
    def runs_on(self) -> str:
        """As `PlacedEngine`."""
        return self.loaded.runs_on

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As `Engine`. Raises BundleError where the model fails, or its answer is not what it said."""
        shape, kind, size, place = images.shape, images.dtype, self.contract.size, self.contract.place
        high, wide = size or (shape[1:3] if len(shape) == 4 else (0, 0))
        if kind != np.uint8 or len(shape) != 4 or shape[1:] != (high, wide, 3) or not 1 <= shape[0] <= MOST_IMAGES:
            wanted = f"{high}, {wide}" if size else "height, width"
            raise ValueError(
                f"images are {kind} {list(shape)}; a batch is uint8 [N, {wanted}, 3] with N in 1..{MOST_IMAGES}: "
                "prepare images by the bundle's preprocess.json, as Predictor does"
            )
        try:
            logits = np.asarray(self.loaded.run(np.ascontiguousarray(images)))
        except Exception as error:  # runtimes raise whatever they like
            raise BundleError(
                f"{place} fails on a batch of {shape[0]} images ({brief(error)}); take smaller batches if memory is "
                "short, else get the bundle from its source"
            ) from error
        classes = self.contract.classes
        if logits.dtype != np.float32 or logits.ndim != 2 or logits.shape != (shape[0], classes or logits.shape[1]):
            raise BundleError(
                f"{place} answers {shape[0]} images by {logits.dtype} {list(logits.shape)} instead of float32 "
                f"[{shape[0]}, {classes or 'classes'}]; get the bundle from its source"
            )
        return logits

    def cancel(self) -> None:
        """End a call that is running, which raises, as soon as the runtime can."""
        self.loaded.cancel()


@dataclass
class _Limit:
    """How long a model may take. One that took longer is not called again."""

    place: str
    seconds: float
    verdict: BundleError | None = None

    def call(self, what: str, work: Callable[[], R], cancel: Callable[[], None] = lambda: None) -> R:
        if self.verdict is not None:
            raise self.verdict
        try:
            return call_within(self.seconds, work, cancel)
        except OverdueError as error:
            rest = "; it cannot be ended, and goes on until this process ends" if error.is_running else ""
            self.verdict = BundleError(
                f"{self.place} did not {what} in {self.seconds:g} s{rest}: take smaller batches or allow more time "
                "(--batch-timeout-s) if the machine is slow, else get the bundle from its source"
            )
            raise self.verdict from None


@dataclass(frozen=True)
class _Limited:
    engine: CheckedEngine
    limit: _Limit

    @property
    def runs_on(self) -> str:
        return self.engine.runs_on

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.limit.call(
            f"answer a batch of {len(images)} images", lambda: self.engine(images), self.engine.cancel
        )


def _others(bundle: Bundle, runtime: str) -> str:
    names = [name for name, each in bundle.formats.items() if each.runtime not in (runtime, "torch", "tensorrt")]
    return " or ".join(f"--format {name}" for name in names) or "another bundle, for it has no other format"
