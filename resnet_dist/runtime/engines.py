"""A bundle's format, loaded: uint8 images in, logits out. Torch-free."""

# onnxruntime and openvino carry no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from resnet_dist.runtime.bundle import Bundle
from resnet_dist.runtime.errors import BundleError, RuntimeMissingError

INPUT, OUTPUT = "images", "logits"
MOST_IMAGES = 1024
"""Of a batch."""

_PRECISION, _PRECISIONS = "INFERENCE_PRECISION_HINT", ("f32", "bf16", "f16")


class Engine(Protocol):
    """Answers batches."""

    def __call__(self, images: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Logits [N, C] of images [N, height, width, 3], RGB, 1 <= N <= MOST_IMAGES. Raises ValueError for others."""
        ...


def load_engine(bundle: Bundle, name: str | None = None, threads: int | None = None) -> Engine:
    """The engine of a format, by default the bundle's first choice, on `threads` threads, by default all cores.

    Raises BundleError for a format that is not there or was changed, or that holds code: TorchScript and torch.export
    are loaded by `resnet_dist.export.formats.torch_engines` where that is asked for. Raises RuntimeMissingError.
    """
    name, chosen = bundle.format(name)
    match chosen.runtime:
        case "onnxruntime" | "openvino":
            size = None if chosen.any_size else bundle.preprocess.input_size
            files = [bundle.read(path) for path in chosen.files]
            try:
                return start_engine(chosen.runtime, files, chosen.hints, size, threads or usable_cores())
            except RuntimeMissingError as error:
                raise RuntimeMissingError(f"{error}, or use {_others(bundle, chosen.runtime)}") from error
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
    size: tuple[int, int] | None,
    threads: int,
) -> Engine:
    """The engine of a format's files, for images of `size` (height, width), or of any size where that is None.

    Raises RuntimeMissingError where OpenVINO is not installed, BundleError for hints that a bundle must not give.
    """
    engine = _onnxruntime(files[0], threads) if runtime == "onnxruntime" else _openvino(files, hints, threads)
    return _Checked(engine, size)


def usable_cores() -> int:
    """Of this machine, as far as this process may use them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class _Checked:
    """OpenVINO takes floats for bytes and answers nonsense, so what goes in is checked for all alike."""

    engine: Engine
    size: tuple[int, int] | None

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        shape, kind = images.shape, images.dtype
        high, wide = self.size or (shape[1:3] if len(shape) == 4 else (0, 0))
        if kind != np.uint8 or len(shape) != 4 or shape[1:] != (high, wide, 3) or not 1 <= shape[0] <= MOST_IMAGES:
            wanted = f"{high}, {wide}" if self.size else "height, width"
            raise ValueError(
                f"images are {kind} {list(shape)}; a batch is uint8 [N, {wanted}, 3] with N in 1..{MOST_IMAGES}: "
                "prepare images by the bundle's preprocess.json, as Predictor does"
            )
        return self.engine(np.ascontiguousarray(images))


def _onnxruntime(model: bytes, threads: int) -> Engine:
    import onnxruntime  # noqa: PLC0415 - only the runtime in use is imported

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait slow down whatever else runs on the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        (logits,) = session.run([OUTPUT], {INPUT: images})
        return np.asarray(logits, dtype=np.float32)

    return answer


def _openvino(files: Sequence[bytes], hints: Mapping[str, str], threads: int) -> Engine:
    try:
        import openvino  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise RuntimeMissingError(
            "OpenVINO formats need the package openvino; pip install 'resnet-dist[openvino]'"
        ) from error
    # Others would do more than compute: CACHE_DIR writes wherever it says.
    if any(name != _PRECISION or value not in _PRECISIONS for name, value in hints.items()):
        raise BundleError(
            f"the bundle tells OpenVINO {dict(hints)!r}, and may tell it {_PRECISION} alone, {', '.join(_PRECISIONS)}; "
            "get the bundle from its source"
        )
    core: Any = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", **hints}
    request: Any = core.compile_model(core.read_model(*files), "CPU", settings).create_infer_request()

    def answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        request.infer({0: images})
        return np.array(request.get_output_tensor(0).data, dtype=np.float32)

    return answer


def _others(bundle: Bundle, runtime: str) -> str:
    names = [name for name, each in bundle.formats.items() if each.runtime not in (runtime, "torch", "tensorrt")]
    return " or ".join(f"--format {name}" for name in names) or "another bundle, for it has no other format"
