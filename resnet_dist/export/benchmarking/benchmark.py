"""Compares the speed of candidates: each runs in a process of its own, and all take turns. Torch-free.

Other load on the machine slows all candidates alike: each process has one turn a round, in alternating order, and a
ratio is the median of the rounds' own ratios.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from resnet_dist.export.benchmarking.candidate import Candidate
from resnet_dist.export.benchmarking.timing import Timing, Turn, summary
from resnet_dist.export.benchmarking.worker import BenchmarkError, BenchmarkWorker
from resnet_dist.runtime.errors import RuntimeMissingError

ROUNDS = 10
_SWEEP_ROUNDS = 2
_WORTH_IT = 1.03
"""A larger batch is better where it makes this much of a smaller one's speed: all the images wait for the last one."""
_PATIENCE = 2
"""A sweep ends after so many batch sizes in a row that were not better."""


@dataclass(frozen=True)
class Plan:
    """What the benchmark measures of each candidate."""

    threads: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    """The sizes to try for the best batch, in ascending order."""
    seconds: float
    """How long each candidate is timed with one image, and again with its best batch, on each number of threads."""


@dataclass(frozen=True)
class Speed:
    """A candidate on some threads."""

    candidate: Candidate
    threads: int
    single: Timing
    """With one image."""
    best: Timing
    """With the best batch."""
    swept: dict[int, float]
    """Images per second by batch size, for the sizes that were tried; from few runs."""
    is_reference: bool
    """Whether it may be the reference: the fastest such candidate is."""


@dataclass(frozen=True)
class Benchmark:
    """The measured speeds, and why other candidates were skipped."""

    speeds: tuple[Speed, ...]
    skipped: dict[str, str]


def benchmark(
    candidates: Sequence[Candidate],
    references: Sequence[Candidate],
    plan: Plan,
    say: Callable[[str], None] = lambda _: None,
) -> Benchmark:
    """Measure candidates and references. `say` gets a line of progress at a time.

    A candidate that cannot be loaded here is skipped, with the reason. Raises BenchmarkError where one fails later.
    """
    speeds, skipped = list[Speed](), dict[str, str]()
    for threads in plan.threads:
        with ExitStack() as stack:
            loading = [stack.enter_context(BenchmarkWorker(each, threads)) for each in (*candidates, *references)]
            workers = dict[str, BenchmarkWorker]()
            for worker in loading:
                try:
                    worker.ready()
                    workers[worker.candidate.name] = worker
                except (RuntimeMissingError, BenchmarkError) as error:
                    skipped[worker.candidate.name] = str(error)
            where = f"{threads} thread{'s' if threads > 1 else ''}"
            reference_names = {each.name for each in references}
            speeds += _on_threads(
                workers, reference_names, threads, plan, lambda text, where=where: say(f"{where}, {text}")
            )
    return Benchmark(tuple(speeds), skipped)


def _on_threads(
    workers: Mapping[str, BenchmarkWorker],
    reference_names: set[str],
    threads: int,
    plan: Plan,
    say: Callable[[str], None],
) -> list[Speed]:
    if not workers:
        return []
    say(f"one image: {', '.join(workers)}")
    singles = _rounds(workers, dict.fromkeys(workers, 1), plan.seconds, ROUNDS)
    peaks = {name: {1: turns[-1].peak_bytes} for name, turns in singles.items()}
    single = _summaries(singles, reference_names, {name: of[1] for name, of in peaks.items()})
    swept = {name: {1: timing.images_per_second} for name, timing in single.items()}
    best = single
    if any(size > 1 for size in plan.batch_sizes):
        _sweep(workers, plan, swept, peaks, say)
        chosen = {name: best_batch(speeds) for name, speeds in swept.items()}
        say(f"best batches: {', '.join(f'{name} {size}' for name, size in chosen.items())}")
        turns = _rounds(workers, chosen, plan.seconds, ROUNDS)
        best = _summaries(turns, reference_names, {name: peaks[name][size] for name, size in chosen.items()})
    return [
        Speed(worker.candidate, threads, single[name], best[name], swept[name], name in reference_names)
        for name, worker in workers.items()
    ]


def _sweep(
    workers: Mapping[str, BenchmarkWorker],
    plan: Plan,
    swept: dict[str, dict[int, float]],
    peaks: dict[str, dict[int, int]],
    say: Callable[[str], None],
) -> None:
    """In ascending order, so that the memory of a batch size is not that of a larger one."""
    going = list(workers)
    for size in plan.batch_sizes:
        if size == 1 or not going:
            continue
        say(f"batches of {size}: {', '.join(going)}")
        for name in list(going):
            try:
                turns = _rounds({name: workers[name]}, {name: size}, plan.seconds / ROUNDS, _SWEEP_ROUNDS)[name]
            except BenchmarkError as error:
                say(str(error))
                going.remove(name)
                continue
            swept[name][size] = max(turn.images_per_second for turn in turns)
            peaks[name][size] = turns[-1].peak_bytes
            if _has_peaked(swept[name]):
                going.remove(name)


def best_batch(speeds: Mapping[int, float]) -> int:
    """The smallest batch size that no larger one is worth waiting for. `speeds`: images per second by batch size."""
    best = 1
    for size in sorted(speeds):
        if size == 1 or speeds[size] >= _WORTH_IT * speeds[best]:
            best = size
    return best


def _has_peaked(speeds: Mapping[int, float]) -> bool:
    return len([size for size in speeds if size > best_batch(speeds)]) >= _PATIENCE


def _rounds(
    workers: Mapping[str, BenchmarkWorker], batches: Mapping[str, int], seconds: float, rounds: int
) -> dict[str, list[Turn]]:
    found: dict[str, list[Turn]] = {name: [] for name in batches}
    for number in range(rounds):
        for name in list(batches)[:: -1 if number % 2 else 1]:
            found[name].append(workers[name].run(batches[name], seconds / rounds))
    return found


def _summaries(
    turns: Mapping[str, list[Turn]], reference_names: set[str], peaks: Mapping[str, int]
) -> dict[str, Timing]:
    alone = {name: summary(each, peaks[name], None) for name, each in turns.items()}
    fastest = max(
        (name for name in turns if name in reference_names),
        key=lambda name: alone[name].images_per_second,
        default=None,
    )
    if fastest is None:
        return alone
    return {name: summary(each, peaks[name], turns[fastest]) for name, each in turns.items()}
