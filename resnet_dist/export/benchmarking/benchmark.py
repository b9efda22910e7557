"""How fast subjects are beside each other: each in a process of its own, all of them in turns. Torch-free.

Whatever else the machine does, it does to all alike: in each round every process has a turn, forwards in one round and
backwards in the next, and a ratio is the median of the rounds' own ratios.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from resnet_dist.export.benchmarking.candidate import Subject
from resnet_dist.export.benchmarking.process import MeasuredProcess, MeasuringError
from resnet_dist.export.benchmarking.timing import Timing, Turn, summary
from resnet_dist.runtime.errors import RuntimeMissingError

ROUNDS = 10
_SWEEP_ROUNDS = 2
_WORTH_IT = 1.03
"""A larger batch is better where it makes this much of a smaller one's speed: all the images wait for the last one."""
_PATIENCE = 2
"""A sweep ends after so many batch sizes in a row that were not better."""


@dataclass(frozen=True)
class Plan:
    """What is measured of each subject."""

    threads: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    """That the best is looked for among, in ascending order."""
    seconds: float
    """For which each subject is timed with one image, and again with its best batch, with each number of threads."""


@dataclass(frozen=True)
class Speed:
    """A subject on some threads."""

    subject: Subject
    threads: int
    single: Timing
    """With one image."""
    best: Timing
    """With the best batch."""
    swept: dict[int, float]
    """Images per second by batch size, as far as it was looked for; of few runs."""
    is_reference: bool
    """Whether it is a candidate for the reference: the fastest of them is it."""


@dataclass(frozen=True)
class Benchmark:
    """What was measured, and why other subjects were not."""

    speeds: tuple[Speed, ...]
    skipped: dict[str, str]


def benchmark(
    subjects: Sequence[Subject],
    references: Sequence[Subject],
    plan: Plan,
    say: Callable[[str], None] = lambda _: None,
) -> Benchmark:
    """Measure subjects and references. `say` is told what is being done.

    A subject that cannot be loaded here is skipped, with the reason. Raises MeasuringError where one fails later.
    """
    speeds, skipped = list[Speed](), dict[str, str]()
    for threads in plan.threads:
        with ExitStack() as stack:
            loading = [stack.enter_context(MeasuredProcess(each, threads)) for each in (*subjects, *references)]
            processes = dict[str, MeasuredProcess]()
            for process in loading:
                try:
                    process.ready()
                    processes[process.subject.name] = process
                except (RuntimeMissingError, MeasuringError) as error:
                    skipped[process.subject.name] = str(error)
            where = f"{threads} thread{'s' if threads > 1 else ''}"
            rivals = {each.name for each in references}
            speeds += _on_threads(processes, rivals, threads, plan, lambda text, where=where: say(f"{where}, {text}"))
    return Benchmark(tuple(speeds), skipped)


def _on_threads(
    processes: Mapping[str, MeasuredProcess], rivals: set[str], threads: int, plan: Plan, say: Callable[[str], None]
) -> list[Speed]:
    if not processes:
        return []
    say(f"one image: {', '.join(processes)}")
    singles = _rounds(processes, dict.fromkeys(processes, 1), plan.seconds, ROUNDS)
    peaks = {name: {1: turns[-1].peak_bytes} for name, turns in singles.items()}
    single = _summaries(singles, rivals, {name: of[1] for name, of in peaks.items()})
    swept = {name: {1: timing.images_per_second} for name, timing in single.items()}
    best = single
    if any(size > 1 for size in plan.batch_sizes):
        _sweep(processes, plan, swept, peaks, say)
        chosen = {name: best_batch(speeds) for name, speeds in swept.items()}
        say(f"best batches: {', '.join(f'{name} {size}' for name, size in chosen.items())}")
        turns = _rounds(processes, chosen, plan.seconds, ROUNDS)
        best = _summaries(turns, rivals, {name: peaks[name][size] for name, size in chosen.items()})
    return [
        Speed(process.subject, threads, single[name], best[name], swept[name], name in rivals)
        for name, process in processes.items()
    ]


def _sweep(
    processes: Mapping[str, MeasuredProcess],
    plan: Plan,
    swept: dict[str, dict[int, float]],
    peaks: dict[str, dict[int, int]],
    say: Callable[[str], None],
) -> None:
    """In ascending order, so that the memory of a batch size is not that of a larger one."""
    going = list(processes)
    for size in plan.batch_sizes:
        if size == 1 or not going:
            continue
        say(f"batches of {size}: {', '.join(going)}")
        for name in list(going):
            try:
                turns = _rounds({name: processes[name]}, {name: size}, plan.seconds / ROUNDS, _SWEEP_ROUNDS)[name]
            except MeasuringError as error:
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
    processes: Mapping[str, MeasuredProcess], batches: Mapping[str, int], seconds: float, rounds: int
) -> dict[str, list[Turn]]:
    found: dict[str, list[Turn]] = {name: [] for name in batches}
    for number in range(rounds):
        for name in list(batches)[:: -1 if number % 2 else 1]:
            found[name].append(processes[name].run(batches[name], seconds / rounds))
    return found


def _summaries(turns: Mapping[str, list[Turn]], rivals: set[str], peaks: Mapping[str, int]) -> dict[str, Timing]:
    alone = {name: summary(each, peaks[name], None) for name, each in turns.items()}
    candidates = [name for name in turns if name in rivals]
    fastest = max(candidates, key=lambda name: alone[name].images_per_second, default=None)
    if fastest is None:
        return alone
    return {name: summary(each, peaks[name], turns[fastest]) for name, each in turns.items()}
