"""How fast exported formats are beside PyTorch: one image, in turns, medians and ratios, with the targets beside them.

    python -m benchmarks.export_speed [--arch resnet50] [--image-size 224] [--threads 2] [--seconds 30]
                                      [--weights FILE.safetensors] [--json FILE] [--markdown FILE]

Weights are random unless given: they do not matter to speed. The reference is PyTorch's eager mode in fp32, by the
faster of contiguous and channels_last, given images that are normalised already. Run it on a machine that does nothing
else.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import safetensors.torch

from resnet_dist.export.benchmarking.benchmark import Benchmark, Plan, Speed, benchmark
from resnet_dist.export.benchmarking.candidate import Candidate, reference_candidates
from resnet_dist.export.benchmarking.machine_load import busy
from resnet_dist.export.config import ExportConfig, Format
from resnet_dist.export.formats.build import BuiltFormat, build, missing, write_graph
from resnet_dist.export.int8.calibration import Calibration
from resnet_dist.model.architectures import ARCHS
from resnet_dist.model.model_json import describe
from resnet_dist.model.resnet import ResNetClassifier, build_model
from resnet_dist.model.structure import Structure
from resnet_dist.runtime.preprocess import Preprocess

TARGETS: dict[Format, float] = {
    "onnx": 1.3,
    "onnxruntime_int8": 3.5,
    "openvino": 1.4,
    "openvino_bf16": 2.8,
    "openvino_int8": 5.0,
}
"""Least ratio to the reference that each format is meant to have."""
CLASSES = 1000
CALIBRATION_BATCHES, CALIBRATION_BATCH = 8, 4


def network(arch: str, weights: Path | None) -> ResNetClassifier:
    """The network with the weights of a file, else with random ones."""
    state = None if weights is None else safetensors.torch.load_file(weights)
    classes = CLASSES if state is None else len(state["fc.bias"])
    model = build_model(Structure(arch), classes, 0.0, 0)
    if state is not None:
        model.load_state_dict(state)
    return model.eval()


def contract(size: int) -> Preprocess:
    """Whole square images with ImageNet's mean and deviation."""
    return Preprocess(
        mode="whole",
        size=size,
        crop_fraction=1.0,
        pad_colour=(0, 0, 0),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        bit_depth=None,
        max_pixels=10**8,
    )


def build_all(model: ResNetClassifier, size: int, folder: Path) -> tuple[list[Candidate], list[Candidate]]:
    """The formats that this machine can build, and the references."""
    preprocess, config = contract(size), ExportConfig()
    shape = (CALIBRATION_BATCHES, CALIBRATION_BATCH, size, size, 3)
    noise = list(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    calibration = Calibration(noise, noise, np.zeros(shape[0] * shape[1], dtype=np.int64))
    write_graph(model, preprocess, folder, config.opset)
    candidates: list[Candidate] = []
    for name in TARGETS:
        if (reason := missing(name, preprocess)) is not None:
            print(f"{name} is left out: {reason}", flush=True)
            continue
        print(f"building {name}", flush=True)
        candidates.append(candidate_of(build(name, model, preprocess, folder, config, calibration), folder, size))
    (folder / "model.json").write_text(json.dumps(describe(model)))
    safetensors.torch.save_file(model.state_dict(), folder / "weights.safetensors")
    return candidates, reference_candidates(folder, (size, size))


def candidate_of(built: BuiltFormat, folder: Path, size: int) -> Candidate:
    """A built format as it is measured."""
    files = tuple(str(folder / file) for file in built.files)
    return Candidate(built.name, built.runtime, built.precision, files, (size, size), built.hints)


def table(found: Benchmark) -> str:
    """Markdown, a line for each format and reference."""
    lines = [
        "| format | precision | p50 ms | p90 | p99 | x PyTorch | at least | MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [line(each) for each in found.speeds]
    lines += [f"| {name} | not measured: {reason} | | | | | | |" for name, reason in found.skipped.items()]
    return "\n".join(lines)


def line(speed: Speed) -> str:
    """One format's."""
    timing, target = speed.single, TARGETS.get(speed.candidate.name)
    times = " | ".join(f"{each:.2f}" for each in (timing.p50_ms, timing.p90_ms, timing.p99_ms))
    ratio = "" if timing.ratio is None else f"{timing.ratio:.2f}"
    wanted = "" if target is None else f"{target:g}"
    missed = " (missed)" if target is not None and timing.ratio is not None and timing.ratio < target else ""
    memory = f"{timing.peak_mb:.0f}"
    name = f"PyTorch, {speed.candidate.hints['memory_format']}" if speed.is_reference else speed.candidate.name
    return f"| {name} | {speed.candidate.precision} | {times} | {ratio}{missed} | {wanted} | {memory} |"


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet50", choices=ARCHS)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30.0, help="for each format")
    parser.add_argument("--weights", type=Path, help="weights.safetensors of a checkpoint")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rd-export-speed-") as scratch:
        candidates, references = build_all(network(args.arch, args.weights), args.image_size, Path(scratch))
        plan = Plan((args.threads,), (1,), args.seconds)
        if (warning := busy()) is not None:
            print(warning, flush=True)
        began = time.perf_counter()
        found = benchmark(candidates, references, plan, lambda text: print(text, flush=True))
        seconds = time.perf_counter() - began
    text = table(found)
    head = f"{args.arch} at {args.image_size} px, one image, {args.threads} threads, {seconds:.0f} s of turns"
    print(f"{head}\n\n{text}")
    if args.markdown is not None:
        args.markdown.write_text(f"{head}\n\n{text}\n")
    if args.json is not None:
        args.json.write_text(json.dumps([asdict(each) for each in found.speeds], indent=2) + "\n")


if __name__ == "__main__":
    main()
