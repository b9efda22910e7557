"""The training loop."""

from typing import Protocol

from resnet_dist.training.divergence import DivergenceWatch
from resnet_dist.training.source import EvaluationSource, TrainingSource
from resnet_dist.training.state import TrainState
from resnet_dist.training.train_step import Recipe, StepTotals, train_step
from resnet_dist.training.validation import validate
from resnet_dist.training.wait_clock import WaitClock


class Plan(Protocol):
    """What changes from epoch to epoch and from step to step; `Setup` is one."""

    def begin_epoch(self, state: TrainState) -> Recipe:
        """The recipe of the state's epoch, once the plan has changed what the state trains where that changes by epoch.
        Collective."""
        ...

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:
        """Of an optimizer step, counted from 0 over the whole run, before the plateau's factor."""
        ...


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
    plan: Plan,
    training: TrainingSource,
    validation: EvaluationSource,
    epochs: int,
    max_skipped_steps: int,
    observer: Observer,
) -> None:
    """Train from where `state` stands until `epochs` are done, or early stopping or the observer ends it. Collective:
    every rank calls it alike.

    A state that still owes an epoch's validation stands behind that epoch's last step, so validation comes first. An
    exception from `observer` (a lost lease, a full disk) ends training at that step. Raises DivergedError when more
    than `max_skipped_steps` in a row had to be left out.
    """
    watch, clock = DivergenceWatch(max_skipped_steps, training.sample_ids), WaitClock()
    while state.epoch < epochs and not _has_stopped(state):
        recipe = plan.begin_epoch(state)
        for step in clock.timed(training.epoch(state.epoch, state.step_in_epoch)):
            rate = plan.learning_rate(state.step, training.steps_per_epoch) * state.plateau.factor
            totals = train_step(state, recipe, step, rate, clock)
            state.validation_owed = state.step_in_epoch == training.steps_per_epoch
            watch.add(state.epoch, step.index, state.skipped_in_a_row)
            observer.step_done(state, totals, clock.take())
        watch.look()
        metrics, state.answered = validate(state, validation, recipe.group, recipe.autocast, recipe.reuse)
        state.epoch, state.step_in_epoch, state.validation_owed = state.epoch + 1, 0, False
        state.plateau.update(metrics, state.epoch)
        if state.stopping is not None:
            state.stopping.update(metrics)
        clock.take()  # waiting for the end of an epoch is no step's
        if not observer.epoch_done(state, metrics):
            return


def _has_stopped(state: TrainState) -> bool:
    """Between epochs only: one that has begun is finished, though its start would now be one too many."""
    return state.stopping is not None and state.stopping.should_stop and state.step_in_epoch == 0
