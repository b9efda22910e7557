"""The training loop."""

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Protocol, TypeVar

from resnet_dist.training.divergence import DivergenceWatch
from resnet_dist.training.source import EvaluationSource, Step, TrainingSource
from resnet_dist.training.state import TrainState
from resnet_dist.training.train_step import Recipe, StepTotals, train_step
from resnet_dist.training.validation import validate

_T = TypeVar("_T")


class Observer(Protocol):
    """How orchestration enters: records, checkpoints, progress. Called on every rank, never collective by itself."""

    def step_done(self, state: TrainState, totals: StepTotals, waited: float) -> None:
        """After each step; `waited` seconds were spent waiting for its data."""
        ...

    def epoch_done(self, state: TrainState, metrics: dict[str, float]) -> bool:
        """After each epoch's validation, with its metrics; `state` stands at the start of the next epoch. Whether to go
        on, on every rank alike."""
        ...


def fit(
    state: TrainState,
    begin_epoch: Callable[[TrainState], Recipe],
    training: TrainingSource,
    validation: EvaluationSource,
    epochs: int,
    learning_rate: Callable[[int], float],
    max_skipped_steps: int,
    observer: Observer,
) -> None:
    """Train from where `state` stands until `epochs` are done, or early stopping or the observer ends it. Collective:
    every rank calls it alike.

    `begin_epoch` gives an epoch's recipe, once it has changed what the state trains where that changes by epoch. A
    state that still owes an epoch's validation stands behind that epoch's last step, so validation comes first.
    `learning_rate` gives the rate of an optimizer step, counted from 0 over the whole run, before a plateau's share.
    An exception from `observer` (a lost lease, a full disk) ends training at that step. Raises DivergedError when more
    than `max_skipped_steps` in a row had to be left out.
    """
    watch = DivergenceWatch(max_skipped_steps, training.sample_ids)
    while state.epoch < epochs and not _has_stopped(state):
        recipe = begin_epoch(state)
        waits = _Waits(training.epoch(state.epoch, state.step_in_epoch))
        for step in waits:
            totals = train_step(state, recipe, step, effective_rate(state, learning_rate))
            state.validation_owed = state.step_in_epoch == training.steps_per_epoch
            watch.add(state.epoch, step.index, state.skipped_in_a_row)
            observer.step_done(state, totals, waits.take())
        watch.look()
        metrics = validate(state, validation, recipe.group, recipe.autocast, recipe.reuse)
        state.epoch, state.step_in_epoch, state.validation_owed = state.epoch + 1, 0, False
        state.plateau.update(metrics, state.epoch)
        if state.stopping is not None:
            state.stopping.update(metrics)
        if not observer.epoch_done(state, metrics):
            return


def _has_stopped(state: TrainState) -> bool:
    """Between epochs only: one that has begun is finished, though its start would now be one too many."""
    return state.stopping is not None and state.stopping.should_stop and state.step_in_epoch == 0


def effective_rate(state: TrainState, learning_rate: Callable[[int], float]) -> float:
    """The learning rate of the state's next step."""
    return learning_rate(state.step) * state.plateau.factor


class _TimedMicrobatches:
    """A step whose microbatches are timed as they are asked for."""

    def __init__(self, step: Step, waits: "_Waits") -> None:
        self.index = step.index
        self.samples = step.samples
        self.microbatch_count = step.microbatch_count
        self.microbatches = waits.timed(step.microbatches)


class _Waits:
    """Steps of an epoch, and how long the loop has waited for their data."""

    def __init__(self, steps: Iterator[Step]) -> None:
        self._steps = steps
        self._seconds = 0.0

    def __iter__(self) -> Iterator[Step]:
        for step in self.timed(self._steps):
            yield _TimedMicrobatches(step, self)

    def timed(self, items: Iterator[_T]) -> Iterator[_T]:
        """The items, adding up the time until each is there."""
        while True:
            start = perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self._seconds += perf_counter() - start
            yield item

    def take(self) -> float:
        """Seconds waited since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds
