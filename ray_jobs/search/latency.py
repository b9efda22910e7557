"""How long a trial's network takes for one image: as ONNX where that can be exported here, else in PyTorch."""

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from statistics import median

import torch

from ray_jobs.compression.latency import kept_table
from ray_jobs.job.config import JobConfig
from resnet_dist.compression.latency.measuring import Stopwatch
from resnet_dist.compression.planning.target import LatencyEngine
from resnet_dist.export.benchmarking.candidate import Candidate
from resnet_dist.export.benchmarking.timing import time_calls
from resnet_dist.export.benchmarking.worker import BenchmarkWorker
from resnet_dist.export.config import ExportConfig
from resnet_dist.export.formats.build import graph_folder, missing, write_graph
from resnet_dist.model.layers import stage_parameters
from resnet_dist.model.resnet import ResNetClassifier, build_model
from resnet_dist.model.structure import Structure
from resnet_dist.runtime.preprocess import Preprocess

_TURNS, _TURN_S = 5, 0.2


def network(job: JobConfig, classes: int) -> ResNetClassifier:
    """The trial's network with any weights, for evaluation."""
    return build_model(job.model.structure, classes, 0.0, job.seed).eval()


def parameter_count(job: JobConfig, classes: int) -> int:
    """Parameters of the network, trained and frozen ones."""
    return sum(stage_parameters(job.model.structure, classes).values())


def latency_how(job: JobConfig, objectives: Sequence[str]) -> str:
    """How the objectives' latency is known, in words; empty where none of them is one."""
    found = [f"{names[1]} by a table of the machine" for names in _TABLES if names[0] in objectives]
    if "latency_ms" in objectives:
        found.insert(0, _measured_how(job))
    return "; ".join(found)


_TABLES = (("latency_onnx_ms", "ONNX Runtime fp32"), ("latency_openvino_ms", "OpenVINO fp32"))


def _measured_how(job: JobConfig) -> str:
    """Of `latency_ms`."""
    threads = f"{job.cluster.cpus_per_worker} threads"
    if missing("onnx", _any_preprocess(job.data.input_size)) is None:
        return f"ONNX Runtime fp32, CPU, {threads}, one image"
    return f"eager, {'GPU' if job.cluster.use_gpu else f'CPU, {threads}'}, one image"


def latency_ms(job: JobConfig, classes: int, device: torch.device) -> float:
    """Median milliseconds of one image at the job's size, on this process's number of threads.

    By the format `onnx` of `resnet-dist export`, which runs on the CPU whatever `device` is; where the packages that
    it needs are not installed, by PyTorch's eager mode on `device`. Weights do not matter to it. Measured once for each
    network and size, so that equal networks are equally fast however busy the machine is.
    """
    structure, size = job.model.structure, job.data.input_size
    if missing("onnx", _any_preprocess(size)) is None:
        return _exported_ms(structure, size, classes, torch.get_num_threads())
    return _eager_ms(structure, size, classes, device.type)


def table_ms(job: JobConfig, classes: int, engine: LatencyEngine) -> float:
    """Milliseconds of one image by the latency table of this machine, on this process's number of threads.

    The table is the one that `compress` uses: measured at its first use, and kept under storage.root. Raises
    RuntimeMissingError where the engine is not installed.
    """
    structure = job.model.structure
    stopwatch = Stopwatch(engine, torch.get_num_threads())
    table = kept_table(job.storage.root, structure, classes, job.data.input_size, stopwatch)
    return table.cost(structure.layer_widths)


@cache
def _exported_ms(structure: Structure, size: tuple[int, int], classes: int, threads: int) -> float:
    model = build_model(structure, classes, 0.0, 0).eval()
    with tempfile.TemporaryDirectory(prefix="rd-latency-") as scratch:
        write_graph(model, _any_preprocess(size), Path(scratch), ExportConfig().opset)
        files = (str(graph_folder(Path(scratch)) / "model.onnx"),)
        with BenchmarkWorker(Candidate("onnx", "onnxruntime", "fp32", files, size), threads) as process:
            process.ready()
            turns = [process.run(1, _TURN_S) for _ in range(_TURNS)]
    return 1000.0 * median(1.0 / turn.images_per_second for turn in turns)


@cache
def _eager_ms(structure: Structure, size: tuple[int, int], classes: int, device: str) -> float:
    model = build_model(structure, classes, 0.0, 0).eval()
    model.to(device=device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    images = torch.zeros((1, 3, *size), device=device).to(memory_format=torch.channels_last)

    def run() -> None:
        model(images)
        if device == "cuda":
            torch.cuda.synchronize()

    with torch.inference_mode():
        return 1000.0 * median(median(time_calls(run, _TURN_S)) for _ in range(_TURNS))


def _any_preprocess(size: tuple[int, int]) -> Preprocess:
    """What is subtracted and divided by costs the same whatever it is."""
    return Preprocess(
        mode="whole",
        size=size,
        crop_fraction=1.0,
        pad_colour=(0, 0, 0),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        bit_depth=None,
        max_pixels=size[0] * size[1],
    )
