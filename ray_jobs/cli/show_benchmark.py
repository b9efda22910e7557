"""What `benchmark` prints: a table of speeds for each number of threads, and why formats are not in it."""

from ray_jobs.bundles.benchmark import BenchmarkOutcome
from ray_jobs.errors import GateError
from ray_jobs.terminal.console import console, show_line, table_of
from ray_jobs.terminal.counted import counted
from resnet_dist.export.benchmarking.timing import Timing

_COLUMNS = ("type", "batch", "ms p50", "p90", "p99", "images/s", "MB", "ratio")


def show_benchmark(outcome: BenchmarkOutcome) -> None:
    """Every format with one image and with its best batch. Raises GateError where a gate was not met."""
    processor, cores = outcome.machine["processor"], outcome.machine["cores"]
    show_line(f"{outcome.bundle} on {processor}, {cores} cores")
    for threads in sorted({each.threads for each in outcome.result.speeds}):
        table = table_of(counted(threads, "thread"), *_COLUMNS, whole_names=True)
        for each in outcome.result.speeds:
            if each.threads == threads:
                rows = [each.single] if each.best.batch == 1 else [each.single, each.best]
                for timing in rows:
                    table.add_row(each.candidate.name, each.candidate.precision, *_cells(timing))
        console().print(table)
    if outcome.no_reference:
        show_line(f"no reference: {outcome.no_reference}")
    else:
        show_line(
            "ratio: images per second over those of the trained network in PyTorch, fp32, by the faster of eager and "
            "eager_nhwc (channels_last), on as many threads; each with one image, or each with its best batch"
        )
    if outcome.warning:
        show_line(outcome.warning)
    for name, reason in outcome.result.skipped.items():
        show_line(f"{name} is not measured: {reason}")
    if outcome.failures:
        raise GateError("\n".join(outcome.failures))


def _cells(timing: Timing) -> list[str]:
    ratio = "" if timing.ratio is None else f"{timing.ratio:.2f}"
    speed = f"{timing.images_per_second:.1f}"
    times = [f"{each:.2f}" if each < 100.0 else f"{each:.1f}" for each in (timing.p50_ms, timing.p90_ms, timing.p99_ms)]
    return [f"{timing.batch}", *times, speed, f"{timing.peak_mb:.0f}", ratio]
