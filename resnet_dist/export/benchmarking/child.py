"""A process that times one subject: it reads requests and writes answers, as lines of JSON.

`python -m resnet_dist.export.benchmarking.child`. The first line is a `Subject` with "threads"; each further line is a
batch size and for how many seconds. The process ends with its input.
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

from resnet_dist.export.benchmarking.candidate import Subject
from resnet_dist.export.benchmarking.timing import timed
from resnet_dist.runtime.engines import Engine, start_engine
from resnet_dist.runtime.errors import RuntimeMissingError

Prepare = Callable[[int], Callable[[], object]]
"""A batch size -> what runs one batch."""

_STATUS = Path("/proc/self/status")


def main() -> None:
    """Load, answer that it is so, then measure whenever told to."""
    # Libraries print; what this process was asked for goes where nothing else does.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # Ctrl-C is for who started this: its input ends then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        given: dict[str, Any] = json.loads(sys.stdin.readline())
        threads = int(given.pop("threads"))
        prepare = prepared(TypeAdapter(Subject).validate_python(given), threads)
    except Exception as error:  # a runtime raises whatever it likes
        _reply(replies, {"error": _text(error), "is_missing": isinstance(error, RuntimeMissingError)})
        return
    _reply(replies, {})
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        try:
            times = timed(prepare(int(order["batch"])), float(order["seconds"]))
            _reply(replies, {"seconds": times, "peak_bytes": peak_bytes()})
        except Exception as error:  # such as a batch that memory does not hold
            _reply(replies, {"error": _text(error)})


def prepared(subject: Subject, threads: int) -> Prepare:
    """Load a subject in this process, on `threads` threads. Raises RuntimeMissingError."""
    if subject.runtime == "eager":
        return _eager(subject, threads)
    engine = _engine(subject, threads)

    def prepare(batch: int) -> Callable[[], object]:
        shape = (batch, *subject.size, 3)
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        return lambda: engine(images)

    return prepare


def peak_bytes() -> int:
    """The most memory that this process has had resident."""
    if _STATUS.exists():
        # Not what the system calls ru_maxrss: that one begins with what the process that started this one had.
        return 1024 * next(
            int(line.split()[1]) for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM")
        )
    import resource  # noqa: PLC0415 - absent where /proc is, too, but not the other way round

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _engine(subject: Subject, threads: int) -> Engine:
    match subject.runtime:
        case "onnxruntime" | "openvino":
            files = [Path(path).read_bytes() for path in subject.files]
            size = None if subject.any_size else subject.size
            return start_engine(subject.runtime, files, subject.hints, size, threads)
        case "torch":
            _use_torch(threads)
            from resnet_dist.export.formats.torch_engines import load_torch_engine  # noqa: PLC0415 - where it was chosen

            return load_torch_engine(Path(subject.files[0]))
        case _:
            try:
                from resnet_dist.export.formats.tensorrt_engine import load_tensorrt_engine  # noqa: PLC0415 - an extra's

                return load_tensorrt_engine(Path(subject.files[0]))
            except ImportError as error:
                raise RuntimeMissingError(
                    f"TensorRT formats need {error.name} and a GPU; measure them in NVIDIA's TensorRT container"
                ) from error


def _eager(subject: Subject, threads: int) -> Prepare:
    _use_torch(threads)
    import safetensors.torch  # noqa: PLC0415 - beside torch
    import torch  # noqa: PLC0415

    from resnet_dist.model.model_json import rebuild  # noqa: PLC0415

    described, weights = subject.files
    layout = torch.channels_last if subject.hints["memory_format"] == "channels_last" else torch.contiguous_format
    model = rebuild(json.loads(Path(described).read_bytes()))
    model.load_state_dict(safetensors.torch.load_file(weights))
    model.eval().to(memory_format=layout)  # pyright: ignore[reportCallIssue]

    def prepare(batch: int) -> Callable[[], object]:
        # Normalised beforehand: that the formats do it themselves is no merit of theirs here.
        images = torch.rand((batch, 3, *subject.size)).to(memory_format=layout)

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
