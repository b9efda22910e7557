"""How long ONNX graphs take in an engine on this machine. Torch-free; only the engine in use is imported."""

# onnxruntime and openvino carry no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_dist.compression.planning.target import LatencyEngine
from resnet_dist.runtime.engines import usable_cores
from resnet_dist.runtime.loaded_model import onnx_session, openvino_core, openvino_request
from resnet_dist.runtime.model_contract import INPUT

ROUNDS = 7
_PACKAGES: dict[LatencyEngine, str] = {"onnx": "onnxruntime", "openvino": "openvino"}
_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Fingerprint:
    """What a measured time depends on, besides the graph."""

    cpu: str
    cores: int
    """That this process may use."""
    threads: int
    engine: LatencyEngine
    version: str
    """Of the engine's package."""

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.engine} {self.version} on {self.threads} threads of {self.cores} cores of {self.cpu}"


def fingerprint(engine: LatencyEngine, threads: int) -> Fingerprint:
    """Of this machine. Raises RuntimeMissingError where the engine is not installed."""
    if engine == "openvino":
        openvino_core()
    return Fingerprint(_cpu(), usable_cores(), threads, engine, version(_PACKAGES[engine]))


def measure_whole(
    graphs: Mapping[str, bytes], engine: LatencyEngine, threads: int, rounds: int = ROUNDS
) -> dict[str, float]:
    """Milliseconds of one image, the median of `rounds` calls of each graph, which take turns call by call.

    Raises RuntimeMissingError where the engine is not installed.
    """
    return {name: float(np.median(each)) for name, each in time_graphs(graphs, engine, threads, rounds).items()}


def time_graphs(
    graphs: Mapping[str, bytes], engine: LatencyEngine, threads: int, rounds: int
) -> dict[str, NDArray[np.float64]]:
    """Milliseconds [rounds] of each graph with one image; each round calls all, so that none has caches to itself.

    Raises RuntimeMissingError where the engine is not installed.
    """
    calls = {name: _start(graph, engine, threads) for name, graph in graphs.items()}
    for call in calls.values():
        call()  # the first one allocates
    found = {name: np.zeros(rounds) for name in calls}
    for number in range(rounds):
        for name in list(calls)[:: -1 if number % 2 else 1]:
            begin = perf_counter()
            calls[name]()
            found[name][number] = 1e3 * (perf_counter() - begin)
    return found


def _start(graph: bytes, engine: LatencyEngine, threads: int) -> Callable[[], object]:
    """What calls a graph with one image."""
    match engine:
        case "onnx":
            session, options = onnx_session(graph, threads)
            entry = session.get_inputs()[0]
            images = _images(entry.shape, is_bytes="uint8" in entry.type)
            return lambda: session.run(None, {INPUT: images}, options)
        case "openvino":
            core = openvino_core()
            model: Any = core.read_model(graph)
            port: Any = model.inputs[0]
            sides = [side.get_length() if side.is_static else None for side in port.get_partial_shape()]
            fed = _images(sides, is_bytes=str(port.get_element_type().to_string()) == "u8")
            request = openvino_request(core, model, {"INFERENCE_PRECISION_HINT": "f32"}, threads)
            return lambda: request.infer({0: fed})


def _images(sides: list[Any], *, is_bytes: bool) -> NDArray[Any]:
    """One, of the shape of a graph's input."""
    shape = tuple(side if isinstance(side, int) else 1 for side in sides)
    drawn = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return drawn if is_bytes else drawn.astype(np.float32) / np.float32(255)


def _cpu() -> str:
    """The processor's name, with what tells its generation where the system says it."""
    try:
        lines = (line.partition(":") for line in _CPU_INFO.read_text().splitlines())
        facts = {name.strip(): value.strip() for name, _, value in reversed(list(lines))}
    except OSError:
        facts = {}
    name = facts.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{what} {facts[what]}" for what in ("cpu family", "model", "CPU part") if what in facts]
    return ", ".join([name, *numbers])
