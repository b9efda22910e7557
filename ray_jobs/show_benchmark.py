"""What `benchmark` prints: a table of speeds, and why formats are not in it."""

from ray_jobs.benchmark import BenchmarkOutcome
from ray_jobs.errors import GateError
from ray_jobs.show import console, show_line, table_of
from resnet_dist.export.timing import Timing


def show_benchmark(outcome: BenchmarkOutcome) -> None:
    """Every format with one image and with its best batch. Raises GateError where a gate said no."""
    processor, cores = outcome.machine["processor"], outcome.machine["cores"]
    show_line(f"{outcome.bundle} on {processor}, {cores} cores")
    table = table_of(
        *("format", "precision", "threads", "batch", "p50 ms", "p90", "p99", "images/s", "MB", "x PyTorch")
    )
    for each in outcome.result.speeds:
        rows = [each.single] if each.best.batch == 1 else [each.single, each.best]
        for timing in rows:
            precision = each.subject.precision
            table.add_row(each.subject.name, precision, f"{each.threads}", *_cells(timing))
    console().print(table)
    if outcome.no_reference:
        show_line(f"no reference: {outcome.no_reference}")
    else:
        show_line(
            "x PyTorch: images per second over those of the trained network in fp32 by the faster of eager and "
            "eager_channels_last, on as many threads, each with one image or each with its best batch"
        )
    for name, reason in outcome.result.skipped.items():
        show_line(f"{name} is not measured: {reason}")
    if outcome.failures:
        raise GateError("\n".join(outcome.failures))


def _cells(timing: Timing) -> list[str]:
    ratio = "" if timing.ratio is None else f"{timing.ratio:.2f}"
    speed = f"{timing.images_per_second:.1f}"
    times = [f"{each:.2f}" for each in (timing.p50_ms, timing.p90_ms, timing.p99_ms)]
    return [f"{timing.batch}", *times, speed, f"{timing.peak_mb:.0f}", ratio]
