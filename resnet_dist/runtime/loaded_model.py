"""A model file in the runtime that computes it, once it was found to be what the bundle says and to need no other file.

Torch-free; only the runtime in use is imported.
"""

# onnxruntime and openvino carry no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from resnet_dist.runtime.errors import BundleError, RuntimeMissingError
from resnet_dist.runtime.model_contract import ModelContract, TensorSpec
from resnet_dist.runtime.onnx_file import require_own_data
from resnet_dist.runtime.providers import Provider, StartedSession, passing_over, start_session

_PRECISION, _PRECISIONS = "INFERENCE_PRECISION_HINT", ("f32", "bf16", "f16")
_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "u8": "uint8", "f32": "float32"}
"""Names of the runtimes for those of a contract."""
_FATAL = 4
"""ONNX Runtime's level of what it prints: errors are raised, too."""


class LoadedModel(Protocol):
    """A model in its runtime, which raises whatever it likes."""

    @property
    def runs_on(self) -> str:
        """Runtime and device, for people."""
        ...

    def run(self, images: NDArray[np.uint8]) -> Any:
        """What it answers a batch by, an array of its own."""
        ...

    def cancel(self) -> None:
        """End `run`, which may be in another thread, as soon as the runtime can."""
        ...


class _OnnxRuntime:
    """A session of ONNX Runtime."""

    def __init__(self, started: StartedSession, options: Any, contract: ModelContract) -> None:
        self._session, self._options, self._contract = started.session, options, contract
        self.runs_on = started.text

    def run(self, images: NDArray[np.uint8]) -> Any:
        return self._session.run([self._contract.output_name], {self._contract.input_name: images}, self._options)[0]

    def cancel(self) -> None:
        self._options.terminate = True  # looked at between two nodes, in loops too


def load_onnxruntime(
    model: bytes, contract: ModelContract, threads: int, providers: Sequence[Provider] | None = ("cpu",)
) -> LoadedModel:
    """A model of an ONNX file, on the first of the providers that there is.

    Raises BundleError for what is none of `contract`, RuntimeMissingError where there is no such provider, and whatever
    the runtime does.
    """
    require_own_data(model, contract.place)
    started = start_session(model, partial(onnx_options, threads), providers)
    sides = (started.session.get_inputs(), started.session.get_outputs())
    contract.require(*([_onnx_spec(each) for each in side] for side in sides))
    return _OnnxRuntime(started, _run_options(), contract)


def onnx_session(model: bytes, threads: int) -> tuple[Any, Any]:
    """ONNX Runtime's session on the CPU of a model that is known to need no other file, and the options of its runs."""
    return start_session(model, partial(onnx_options, threads), ("cpu",)).session, _run_options()


def onnx_options(threads: int) -> Any:
    """Of a session of ONNX Runtime."""
    import onnxruntime  # noqa: PLC0415 - only the runtime in use is imported

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait slow down whatever else runs on the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # What was read as ONNX is loaded as ONNX, whatever else it may look like.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.log_severity_level = _FATAL
    return options


def _run_options() -> Any:
    import onnxruntime  # noqa: PLC0415 - only the runtime in use is imported

    running = onnxruntime.RunOptions()
    running.log_severity_level = _FATAL
    return running


def _onnx_spec(found: Any) -> TensorSpec:
    sides = tuple(side if isinstance(side, int) else None for side in found.shape)
    return TensorSpec(found.name, _DTYPES.get(str(found.type), str(found.type)), sides)


class _OpenVino:
    """An infer request of OpenVINO."""

    def __init__(self, request: Any, passed_over: Mapping[Provider, str]) -> None:
        self._request = request
        self.runs_on = f"OpenVINO on cpu{passing_over(passed_over)}"

    def run(self, images: NDArray[np.uint8]) -> Any:
        self._request.infer({0: images})
        return self._request.get_output_tensor(0).data.copy()

    def cancel(self) -> None:
        self._request.cancel()


def load_openvino(
    files: Sequence[bytes],
    hints: Mapping[str, str],
    contract: ModelContract,
    threads: int,
    providers: Sequence[Provider] | None = ("cpu",),
) -> LoadedModel:
    """A model of OpenVINO's two files, its XML and its weights, on the CPU. Raises what `load_onnxruntime` does.

    Raises RuntimeMissingError where OpenVINO is not installed; BundleError, too, for hints that a bundle must not give.
    """
    network, weights = files
    before = () if providers is None else tuple(providers)[: list(providers).index("cpu")]
    passed_over = dict.fromkeys(before, "OpenVINO's formats run on the CPU alone")
    _require_ir(network, hints, contract.place)
    core = openvino_core()
    model: Any = core.read_model(network, weights)
    names = (contract.input_name, contract.output_name)
    sides = zip((model.inputs, model.outputs), names, strict=True)
    contract.require(*([_openvino_spec(each, name) for each in side] for side, name in sides))
    return _OpenVino(openvino_request(core, model, hints, threads), passed_over)


def openvino_core() -> Any:
    """OpenVINO, one for the process. Raises RuntimeMissingError where it is not installed.

    Its CPU plugin gives the thread that first compiles a stack for signals, and takes it back when it ends. Of two
    whose lives overlap, the later one then gives the thread the stack of the one that is gone, and the next signal,
    such as Ctrl-C, ends the process with a segmentation fault.
    """
    try:
        import openvino  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise RuntimeMissingError(
            "OpenVINO formats need the package openvino; pip install 'resnet-dist[openvino]'"
        ) from error
    return _only_one(openvino.Core)


@cache
def _only_one(core: Callable[[], Any]) -> Any:
    return core()


def openvino_request(core: Any, model: Any, hints: Mapping[str, str], threads: int) -> Any:
    """What answers one batch at a time, by a model that `core` has read."""
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", **hints}
    return core.compile_model(model, "CPU", settings).create_infer_request()


def _openvino_spec(port: Any, wanted: str) -> TensorSpec:
    """Of a port, which may have several names."""
    names = sorted(port.get_names())
    name = wanted if wanted in names else next(iter(names), "(no name)")
    dtype, shape = str(port.get_element_type().to_string()), port.get_partial_shape()
    sides = tuple(side.get_length() if side.is_static else None for side in shape) if shape.rank.is_static else None
    return TensorSpec(name, _DTYPES.get(dtype, dtype), sides)


def _require_ir(model: bytes, hints: Mapping[str, str], place: str) -> None:
    """Raise BundleError for what OpenVINO would not read as its own XML, or be told more than a precision."""
    # It also reads ONNX and others, which may take their values from files in any folder.
    if not model.lstrip().startswith((b"<?xml", b"<net")):
        raise BundleError(f"{place} is no OpenVINO IR, which is XML; get the bundle again, or export the run again")
    # Others would do more than compute: CACHE_DIR writes wherever it says.
    if any(name != _PRECISION or value not in _PRECISIONS for name, value in hints.items()):
        raise BundleError(
            f"{place}: the bundle tells OpenVINO {dict(hints)!r}, and may tell it {_PRECISION} alone, "
            f"{', '.join(_PRECISIONS)}; get the bundle from its source"
        )
