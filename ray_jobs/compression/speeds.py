"""How large and how fast networks are as files, in each runtime: built without a gate, measured in turns."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnet_dist.export.benchmarking.benchmark import Plan, benchmark
from resnet_dist.export.benchmarking.candidate import Candidate
from resnet_dist.export.config import ExportConfig, Format
from resnet_dist.export.formats.build import build, missing, write_graph
from resnet_dist.export.int8.calibration import Calibration
from resnet_dist.model.resnet import ResNetClassifier
from resnet_dist.quantisation.dialect import Range
from resnet_dist.runtime.preprocess import Preprocess

MEASURED: dict[Format, Format] = {"onnx": "onnxruntime_int8", "openvino": "openvino_int8"}
"""The formats in fp32, of ONNX Runtime and of OpenVINO, and of the same runtime in int8."""
_UNUSED = Calibration((), (), np.empty(0, dtype=np.int64))
"""Only formats in int8 need ranges."""


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network in floating point, and the ranges of its tensors in 8 bits where it learnt for some."""

    model: ResNetClassifier
    ranges: tuple[Range, ...] = ()


@dataclass(frozen=True)
class FormatSpeed:
    """A network in one format, one image at a time."""

    megabytes: float
    """10^6 bytes of its files."""
    p50_ms: float
    p99_ms: float
    ratio: float | None
    """Times as fast as the first network in the same runtime: the median of the rounds' ratios."""


def measured_speeds(
    networks: Mapping[str, MeasuredNetwork],
    preprocess: Preprocess,
    threads: int,
    seconds: float,
    say: Callable[[str], None],
) -> tuple[dict[str, dict[str, FormatSpeed]], dict[str, str]]:
    """By network, the first of which the others are compared with, and then by format: that in int8 of one that learnt
    for it. And why formats were left out. Raises BenchmarkError where one cannot be run.
    """
    found = dict[str, dict[str, FormatSpeed]]()
    is_any_int8 = any(network.ranges for network in networks.values())
    reasons = {
        name: missing(name, preprocess) or (missing(in_int8, preprocess) if is_any_int8 else None)
        for name, in_int8 in MEASURED.items()
    }
    formats: tuple[Format, ...] = tuple(name for name in MEASURED if reasons[name] is None)
    with tempfile.TemporaryDirectory(prefix="rd-compress-") as scratch:
        places = {name: Path(scratch) / str(number) for number, name in enumerate(networks)}
        if formats:
            for name, network in networks.items():
                write_graph(network.model.eval(), preprocess, places[name], ExportConfig().opset)
        for plain in formats:
            candidates, sizes = dict[str, Candidate](), dict[str, float]()
            for name, network in networks.items():
                wanted = MEASURED[plain] if network.ranges else plain
                calibration = Calibration((), (), np.empty(0, dtype=np.int64), network.ranges)
                built = build(wanted, network.model, preprocess, places[name], ExportConfig(), calibration)
                files = [places[name] / each for each in built.files]
                sizes[name] = sum(each.stat().st_size for each in files) / 1e6
                paths = tuple(map(str, files))
                candidates[name] = Candidate(
                    name, built.runtime, built.precision, paths, preprocess.input_size, dict(built.hints)
                )
            first, *others = candidates.values()
            speeds = benchmark(others, [first], Plan((threads,), (1,), seconds), say).speeds
            timings = {each.candidate.name: each.single for each in speeds}
            for name, network in networks.items():
                if (timing := timings.get(name)) is not None:
                    wanted = MEASURED[plain] if network.ranges else plain
                    speed = FormatSpeed(sizes[name], timing.p50_ms, timing.p99_ms, timing.ratio)
                    found.setdefault(name, {})[wanted] = speed
    return found, {name: reason for name, reason in reasons.items() if reason is not None}


def graph_bytes(network: ResNetClassifier, preprocess: Preprocess, wanted: Format) -> int:
    """Bytes of a network's files in a format. Raises what a converter does."""
    with tempfile.TemporaryDirectory(prefix="rd-compress-") as scratch:
        place = Path(scratch)
        write_graph(network.eval(), preprocess, place, ExportConfig().opset)
        built = build(wanted, network, preprocess, place, ExportConfig(), _UNUSED)
        return sum((place / each).stat().st_size for each in built.files)
