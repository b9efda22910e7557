"""What Ray Tune runs for a trial: it submits an order to the dispatcher and reports each epoch. No torch here.

Its process only waits and takes no CPU. Only worker groups reserve any, so trials and their workers can never wait for
each other.
"""

# Ray Tune carries no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUntypedBaseClass=false

import json
from typing import Any

from ray import tune
from ray.tune.result import DONE

from ray_jobs.job.config import JobConfig
from ray_jobs.search.actors import SearchActors
from ray_jobs.search.config import best_value
from ray_jobs.search.dispatcher import Dispatcher, TrialEvent, TrialOrder
from ray_jobs.search.known_trials import KnownTrials
from ray_jobs.search.parameter import Params
from ray_jobs.search.records import Epoch, TrialRecord, digest_of
from ray_jobs.search.space import job_with
from resnet_dist.errors import RunError
from resnet_dist.training.out_of_memory import halved

PARAMS = "params"
"""Of a trial's Tune config: its parameters as JSON. Tune would unpack a dict."""


class TrialError(Exception):
    """A trial failed; the search goes on without it."""


class Trial(tune.Trainable):
    """One trial after the other."""

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride] - Tune hands in what `with_parameters` was given
        self,
        config: dict[str, Any],
        actors: SearchActors,
        job: JobConfig,
        objectives: tuple[str, ...],
    ) -> None:
        """`job` is the default configuration, resolved."""
        self._dispatcher, self._known_trials = actors.dispatcher, actors.known_trials
        self._job, self._objectives = job, objectives
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Serve another trial in the same process."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """The trial's next epoch, or its end. A failure is a result, too: Tune would lose its message."""
        if self._replayed is not None:
            return self._replay(self._replayed)
        try:
            return self._next()
        except (TrialError, RunError) as error:
            return {**self._result("failed", TrialEvent("failed", error=str(error))), DONE: True}

    def _begin(self, config: dict[str, Any]) -> None:
        self._params: Params = params_of(config)
        self._digest = digest_of(self._params)
        self._reported = 0.0
        self._epochs: list[Epoch] = []
        self._failures = 0
        self._steps_before = -1.0
        # Waits for the same parameters that are being trained right now.
        self._replayed: TrialRecord | None = self._known_trials.call(KnownTrials.get, self._digest, self.trial_id)
        if self._replayed is None:
            self._order = TrialOrder(self._digest, job_with(self._job, self._params))
            self._dispatcher.call(Dispatcher.submit, self._order)

    def _next(self) -> dict[str, Any]:
        after = self._reported
        while True:
            event = self._dispatcher.call(Dispatcher.next_event, self._digest, after)
            match event.kind:
                case "epoch":
                    epoch = event.epoch
                    if epoch["epoch"] <= self._reported:
                        continue  # trained before its worker group was lost
                    self._reported = epoch["epoch"]
                    self._epochs.append(epoch)
                    if not self._is_last(epoch):
                        return self._result("running")
                case "finished" | "diverged":
                    return {**self._result(event.kind, event), DONE: True}
                case "closed" | "stopped":  # the scheduler's stops end this process, so this one is the search's
                    return {**self._result("closed"), DONE: True}
                case "lost" | "too_large":
                    self._again(event)
                case "failed":
                    raise TrialError(event.error)

    def _again(self, event: TrialEvent) -> None:
        """Go on from the last checkpoint, unless that has failed too often."""
        if event.kind == "too_large":
            job = self._order.job
            size = halved(int(event.results["microbatch"]), job.training.global_batch_size)
            self._order = TrialOrder(self._order.digest, job, size)
        else:
            self._failures = self._failures + 1 if self._reported <= self._steps_before else 1
            self._steps_before = self._reported
            if self._failures > self._job.cluster.max_failures:
                raise TrialError(
                    f"workers failed {self._failures} times without a new epoch "
                    f"(cluster.max_failures={self._job.cluster.max_failures}); the last failure: {event.error}"
                )
        self._dispatcher.call(Dispatcher.submit, self._order)

    def _is_last(self, epoch: Epoch) -> bool:
        return epoch["epoch"] >= self._job.training.epochs or bool(epoch.get("stops_early"))

    def _result(self, state: str, event: TrialEvent | None = None) -> dict[str, Any]:
        first = self._objectives[0]
        values = [epoch[first] for epoch in self._epochs]
        objective = best_value(first, values) if values and state != "diverged" else float("nan")
        result = {"epoch": self._reported, "objective": objective, "state": state}
        result |= {key: value for key, value in (self._epochs[-1] if self._epochs else {}).items() if "/" in key}
        if event is not None:
            result |= {"error": event.error, "results": json.dumps(event.results)}
            result |= objective_keys(self._objectives, values_of(self._objectives, self._epochs, event.results))
        return result

    def _replay(self, record: TrialRecord) -> dict[str, Any]:
        if len(self._epochs) < len(record.history):
            self._epochs.append(record.history[len(self._epochs)])
            self._reported = self._epochs[-1]["epoch"]
        if len(self._epochs) < len(record.history):
            return self._result("running")
        result = {**self._result(record.state), DONE: True}
        return result | objective_keys(self._objectives, record.values)


def params_of(config: dict[str, Any]) -> Params:
    """A trial's parameters from its Tune config."""
    return {
        field: tuple(value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownArgumentType]
        for field, value in json.loads(config[PARAMS]).items()
    }


def values_of(
    objectives: tuple[str, ...], history: "list[Epoch] | tuple[Epoch, ...]", results: dict[str, float]
) -> tuple[float | None, ...]:
    """Each objective of the best epoch by the first one; empty without an epoch."""
    if not history:
        return ()
    first = objectives[0]
    target = best_value(first, [epoch[first] for epoch in history])
    best = next((epoch for epoch in history if epoch[first] == target), history[-1])
    return tuple(best.get(name, results.get(name)) for name in objectives)


def objective_keys(objectives: tuple[str, ...], values: tuple[float | None, ...]) -> dict[str, float]:
    """Values under the names of the study's metrics."""
    found = dict(zip((f"objective_{place}" for place in range(len(objectives))), values, strict=False))
    return {name: value for name, value in found.items() if value is not None}
