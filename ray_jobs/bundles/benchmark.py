"""`resnet-dist benchmark`: how fast a bundle's formats are on this machine, beside PyTorch. Torch only where it is."""

import json
import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ray_jobs.bundles.lookup import local_bundle
from ray_jobs.errors import ConfigError
from ray_jobs.job.packages import installed_version
from ray_jobs.terminal.counted import counted
from resnet_dist.errors import RunError
from resnet_dist.export.benchmarking.benchmark import Benchmark, Plan, benchmark
from resnet_dist.export.benchmarking.candidate import Candidate, format_candidate, reference_candidates
from resnet_dist.export.benchmarking.machine_load import busy
from resnet_dist.export.benchmarking.speed_gate import SpeedGate
from resnet_dist.export.benchmarking.worker import BenchmarkError
from resnet_dist.runtime.bundle import BUNDLE, Bundle
from resnet_dist.runtime.engines import usable_cores
from resnet_dist.runtime.errors import BundleError, RuntimeMissingError
from resnet_dist.runtime.model_contract import MOST_IMAGES

SCHEMA = 1
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
_LOADING_S = {"onnxruntime": 2.0, "openvino": 4.0, "tensorrt": 10.0, "torch": 8.0, "eager": 8.0}
"""Of a process until it has run a first batch, by its runtime; on one slow core, a ResNet-50."""
_PACKAGES = ("torch", "onnxruntime", "openvino", "numpy")


@dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured, as far as the user chose."""

    formats: tuple[str, ...] = ()
    """Empty: all that are published, but those that can hold code."""
    threads: tuple[int, ...] = ()
    """Empty: 1 and all cores."""
    batch_sizes: tuple[int, ...] = BATCH_SIZES
    seconds: float = 5.0
    gates: tuple[SpeedGate, ...] = ()


@dataclass(frozen=True)
class BenchmarkOutcome:
    """A measured bundle."""

    bundle: str
    result: Benchmark
    no_reference: str
    """Why there is nothing to compare with; empty where there is."""
    failures: tuple[str, ...]
    """Gates that were not met, with numbers."""
    warning: str
    """What else the machine did when it began; empty where it was idle."""
    machine: dict[str, Any]
    """Processor, cores and versions of packages."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema": SCHEMA,
            "bundle": self.bundle,
            "machine": self.machine,
            "warning": self.warning,
            "no_reference": self.no_reference,
            "speeds": [
                {
                    "format": each.candidate.name,
                    "runtime": each.candidate.runtime,
                    "precision": each.candidate.precision,
                    "threads": each.threads,
                    "is_reference": each.is_reference,
                    "single": asdict(each.single),
                    "best": asdict(each.best),
                    "swept_images_per_second": each.swept,
                }
                for each in self.result.speeds
            ],
            "skipped": self.result.skipped,
            "failures": list(self.failures),
        }


def run_benchmark(
    place: str,
    options: BenchmarkOptions = BenchmarkOptions(),
    run: str | None = None,
    storage_root: str = "outputs",
    say: Callable[[str], None] = lambda _: None,
) -> BenchmarkOutcome:
    """Measure the formats of a bundle, and the network it was made of where `run`, or the run it lies in, is there.

    TorchScript and torch.export can hold code: they are measured only where `options.formats` names them. `say` gets a
    line about each step. Raises BundleError, ConfigError, RuntimeMissingError for a chosen format that cannot be loaded
    here, RunError for a `run` that cannot be used.
    """
    bundle = Bundle.open(local_bundle(place, storage_root))
    candidates, skipped = _candidates(bundle, options.formats)
    _check_gates(options, candidates)
    plan = _plan(options)
    with tempfile.TemporaryDirectory(prefix="rd-benchmark-") as scratch:
        references, no_reference = _references(bundle, run, storage_root, Path(scratch))
        ratios = [gate for gate in options.gates if gate.unit == "x"]
        if no_reference and ratios:
            raise ConfigError(
                f"--fail-under {ratios[0].format}={ratios[0].least:g} is a ratio to PyTorch, but there is no "
                f"reference: {no_reference}; ask for images per second instead, such as {ratios[0].format}=20ips"
            )
        warning = busy() or ""
        if warning:
            say(warning)
        say(f"{bundle.folder}: {_expected(plan, [*candidates, *references])}")
        try:
            found = benchmark(candidates, references, plan, say)
        except BenchmarkError as error:
            raise BundleError(f"{bundle.folder}: {error}") from error
    for name in options.formats:
        if name in found.skipped:
            raise RuntimeMissingError(f"{name}: {found.skipped[name]}")
    result = Benchmark(found.speeds, skipped | found.skipped)
    failures = tuple(text for gate in options.gates if (text := gate.failure(result.speeds)) is not None)
    return BenchmarkOutcome(str(bundle.folder), result, no_reference, failures, warning, _machine())


def check_json(path: Path) -> None:
    """Know before minutes of measuring that the numbers can be stored. Raises ConfigError."""
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"--json {path} cannot be written; name a file in a folder that is there")


def write_json(path: Path, outcome: BenchmarkOutcome) -> None:
    """Store the numbers. Raises ConfigError where they cannot be."""
    try:
        path.write_text(json.dumps(outcome.to_json(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"--json {path} cannot be written ({error}); name a file in a folder that is there"
        ) from error


def _plan(options: BenchmarkOptions) -> Plan:
    if not 0.0 < options.seconds <= 3600.0:
        raise ConfigError(f"--seconds {options.seconds}: give a number above 0, of at most 3600")
    cores = usable_cores()
    threads = options.threads or ((1, cores) if cores > 1 else (1,))
    for what, numbers, most in (("threads", threads, 1024), ("batch-sizes", options.batch_sizes, MOST_IMAGES)):
        if not numbers or len(set(numbers)) < len(numbers) or not all(1 <= number <= most for number in numbers):
            listed = ",".join(map(str, numbers))
            raise ConfigError(f"--{what} {listed}: give different whole numbers in 1..{most} with commas between them")
    return Plan(tuple(sorted(threads)), tuple(sorted(options.batch_sizes)), options.seconds)


def _expected(plan: Plan, candidates: Sequence[Candidate]) -> str:
    """How long it will take, in words."""
    # All processes of a number of threads start together and share the cores.
    alone = [_LOADING_S[each.runtime] for each in candidates]
    loading = max([sum(alone) / usable_cores(), *alone]) * len(plan.threads)
    measuring = 2.5 * plan.seconds * len(candidates) * len(plan.threads)
    minutes = max(round((loading + measuring) / 60), 1)
    return (
        f"{len(candidates)} in turns, about {counted(minutes, 'minute')}, {loading:.0f} s of them to "
        "load the models and warm them up"
    )


def _candidates(bundle: Bundle, wanted: tuple[str, ...]) -> tuple[list[Candidate], dict[str, str]]:
    if len(set(wanted)) < len(wanted):
        raise ConfigError(f"--formats {','.join(wanted)} names one twice; remove it")
    for name in wanted:
        if name not in bundle.formats:
            why = f": it was refused, {bundle.refused[name]}" if name in bundle.refused else ""
            raise ConfigError(f"--formats {name} is not in {bundle.folder}{why}; it has {', '.join(bundle.formats)}")
    skipped = {
        name: f"it can hold code that loading it would run; --formats {name} measures it where you trust its source"
        for name, each in bundle.formats.items()
        if each.runtime == "torch" and not wanted
    }
    names = [name for name in wanted or bundle.formats if name not in skipped]
    return [format_candidate(bundle, name) for name in names], skipped


def _check_gates(options: BenchmarkOptions, candidates: list[Candidate]) -> None:
    measured = [each.name for each in candidates]
    for gate in options.gates:
        if gate.format not in measured:
            raise ConfigError(
                f"--fail-under {gate.format}={gate.least:g}: {gate.format} is not measured here; name one of "
                f"{', '.join(measured)}, or have it measured by --formats"
            )


def _references(bundle: Bundle, run: str | None, root: str, scratch: Path) -> tuple[list[Candidate], str]:
    """The network as it was trained, or why there is none."""
    folder = bundle.folder.absolute().parent
    if run is None and not (bundle.folder.name == BUNDLE and (folder / "config.toml").is_file()):
        return [], "this bundle does not lie in its run; name that by --run RUN"
    if lacking := [name for name in ("torch", "safetensors", "pyarrow") if find_spec(name) is None]:
        return [], f"the package {lacking[0]} is not installed; pip install 'resnet-dist[export]'"
    from ray_jobs.run.directory import RunDirectory  # noqa: PLC0415 - it needs pyarrow

    if run is not None:
        RunDirectory.find(run, root)
    from ray_jobs.bundles.trained_network import save_network  # noqa: PLC0415 - it needs torch

    try:
        save_network(run or str(folder), root, bundle, scratch)
    except RunError as error:
        if run is not None:
            raise
        return [], str(error)
    return reference_candidates(scratch, bundle.preprocess.input_size), ""


def _machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "packages": {name: found for name in _PACKAGES if (found := installed_version(name))},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
