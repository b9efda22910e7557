"""The program of a benchmark worker: it times one candidate. It reads requests and writes replies as lines of JSON.

`python -m resnet_dist.export.benchmarking.worker_main`. The first line is a `Candidate` with "threads"; each
further line holds a batch size and a number of seconds. The process ends when its input does.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from pydantic import TypeAdapter

from resnet_dist.export.benchmarking.candidate import Candidate
from resnet_dist.export.benchmarking.timing import time_calls
from resnet_dist.runtime.engines import Engine, start_engine
from resnet_dist.runtime.errors import RuntimeMissingError
from resnet_dist.runtime.model_contract import ModelContract

Prepare = Callable[[int], Callable[[], object]]
"""A batch size -> what runs one batch."""

_STATUS = Path("/proc/self/status")


def main() -> None:
    """Load the candidate, confirm it, then measure on each request."""
    # Libraries print to stdout: replies use a copy of it that no library knows.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # Ctrl-C is for the process that started this one, which then closes its input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        first: dict[str, Any] = json.loads(sys.stdin.readline())
        threads = int(first.pop("threads"))
        prepare = load_candidate(TypeAdapter(Candidate).validate_python(first), threads)
    except Exception as error:  # a runtime raises whatever it likes
        _reply(replies, {"error": _text(error), "is_missing": isinstance(error, RuntimeMissingError)})
        return
    _reply(replies, {})
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        try:
            times = time_calls(prepare(int(request["batch"])), float(request["seconds"]))
            _reply(replies, {"seconds": times, "peak_bytes": peak_bytes()})
        except Exception as error:  # such as a batch that memory does not hold
            _reply(replies, {"error": _text(error)})


def load_candidate(candidate: Candidate, threads: int) -> Prepare:
    """Load a candidate in this process, on `threads` threads. Raises RuntimeMissingError."""
    if candidate.runtime == "eager":
        return _eager(candidate, threads)
    engine = _engine(candidate, threads)

    def prepare(batch: int) -> Callable[[], object]:
        shape = (batch, *candidate.size, 3)
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        return lambda: engine(images)

    return prepare


def peak_bytes() -> int:
    """The most memory that this process has had resident."""
    if _STATUS.exists():
        # Not ru_maxrss: it starts from the memory of the process that started this one.
        return 1024 * next(
            int(line.split()[1]) for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM")
        )
    import resource  # noqa: PLC0415 - absent where /proc is, too, but not the other way round

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _engine(candidate: Candidate, threads: int) -> Engine:
    match candidate.runtime:
        case "onnxruntime" | "openvino":
            files = [Path(path).read_bytes() for path in candidate.files]
            size = None if candidate.any_size else candidate.size
            contract = ModelContract(candidate.files[0], size, candidate.classes)
            return start_engine(candidate.runtime, files, candidate.hints, contract, threads)
        case "torch":
            _use_torch(threads)
            from resnet_dist.export.formats.torch_engines import load_torch_engine  # noqa: PLC0415 - where it was chosen

            return load_torch_engine(Path(candidate.files[0]))
        case _:
            try:
                from resnet_dist.export.formats.tensorrt_engine import load_tensorrt_engine  # noqa: PLC0415 - an extra's

                return load_tensorrt_engine(Path(candidate.files[0]))
            except ImportError as error:
                raise RuntimeMissingError(
                    f"TensorRT formats need {error.name} and a GPU; measure them in NVIDIA's TensorRT container"
                ) from error


def _eager(candidate: Candidate, threads: int) -> Prepare:
    _use_torch(threads)
    import safetensors.torch  # noqa: PLC0415 - beside torch
    import torch  # noqa: PLC0415

    from resnet_dist.model.model_json import restored_float  # noqa: PLC0415

    described, weights = candidate.files
    layout = torch.channels_last if candidate.hints["memory_format"] == "channels_last" else torch.contiguous_format
    model = restored_float(json.loads(Path(described).read_bytes()), safetensors.torch.load_file(weights))
    model.eval().to(memory_format=layout)  # pyright: ignore[reportCallIssue]

    def prepare(batch: int) -> Callable[[], object]:
        # Normalised beforehand: that the formats do it themselves is no merit of theirs here.
        images = torch.rand((batch, 3, *candidate.size)).to(memory_format=layout)

        def run() -> None:
            with torch.inference_mode():
                model(images)

        return run

    return prepare


def _use_torch(threads: int) -> None:
    try:
        import torch  # noqa: PLC0415 - only where it was asked for
    except ImportError as error:
        raise RuntimeMissingError(
            "torch formats need the package torch; pip install 'resnet-dist[export]', or measure other formats"
        ) from error
    torch.set_num_threads(threads)


def _text(error: BaseException) -> str:
    return " ".join(f"{error}".split()) or type(error).__name__


def _reply(replies: TextIO, value: dict[str, Any]) -> None:
    replies.write(json.dumps(value) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
