"""The search's memory: an Optuna study that is made again from the trials' records, behind Ray Tune's OptunaSearch."""

# Optuna is typed, Ray's search classes are not.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportUntypedBaseClass=false

import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Self, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial
from ray.tune.search.optuna import OptunaSearch

from ray_jobs.search.config import SearchConfig, is_maximized
from ray_jobs.search.parameter import Parameter, Params, Plain, text_of
from ray_jobs.search.records import TrialRecord
from ray_jobs.search.space import Space
from ray_jobs.search.trainable import PARAMS

_STUDY = "search"


@dataclass
class Draws:
    """The randomness of a search: each draw of its sampler has a seed that is a function of (seed, draw's number).

    So a search that was interrupted, at whatever moment, draws what it would have drawn undisturbed. What a sampler
    that learns makes of a draw depends on the trials that are over by then, too, and their order may be another.
    """

    seed: int
    """The job's."""
    number: int = 0
    """Of the next draw."""

    def next_seed(self) -> int:
        """The next draw's, of 32 bits."""
        number, self.number = self.number, self.number + 1
        return int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0])


class Unsaved:
    """What Ray Tune pickles without its contents and never copies: a search is made again from its trials' records."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class StudySearch(Unsaved, OptunaSearch):
    """OptunaSearch that begins with given configurations, tells pruned trials from finished ones, and lets no NaN in.

    Ray's own tells Optuna that a trial which was ended early is complete with what it had by then: a sampler would
    take one epoch's accuracy for that of ten. Here such a trial is pruned, with its epochs as intermediate values, and
    so is a diverged one, with none: TPE takes both for worse than what was finished.
    """

    def __init__(
        self,
        config: SearchConfig,
        space: Space,
        draws: Draws,
        journal: Path,
        over: list[TrialRecord],
        initial: list[Params],
    ) -> None:
        """`over` is what the study knows already; `initial` is tried before anything is suggested."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._searched = space
        self._config = config
        self._draws = draws
        self.journal = journal
        self._initial = list(initial)
        self._outside: set[str] = set()
        self._epochs: dict[str, dict[int, float]] = {}
        self.suggested: Callable[[Params], None] = lambda _: None
        """Called with each configuration before it is tried."""
        self.suggest_s: list[float] = []
        several = len(config.objectives) > 1
        directions = ["max" if is_maximized(name) else "min" for name in config.objectives]
        metrics = [f"objective_{place}" for place in range(len(directions))]
        super().__init__(
            space=space.suggest,
            metric=metrics if several else "objective",
            mode=directions if several else directions[0],
            sampler=build_sampler(config, draws.seed),
            study_name=_STUDY,
            storage=JournalStorage(JournalFileBackend(str(journal))),
        )
        for record in over:
            self.add_record(record)

    def add_record(self, record: TrialRecord) -> None:
        """Add a trial that is over to the study, unless it lies outside the space: Optuna refuses those."""
        if not self._searched.contains(record.params):
            return
        trial = _frozen(self._searched, record, several=isinstance(self.metric, list))
        if trial is not None:
            self.study.add_trial(trial)

    @property
    def study(self) -> optuna.Study:
        """Optuna's study."""
        if self._ot_study is None:
            raise RuntimeError("OptunaSearch makes its study when it is given a space, and it was given one")
        return self._ot_study

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is made again from the records."""

    def suggest(self, trial_id: str) -> dict[str, str]:
        """A trial's Tune config."""
        began, is_given = perf_counter(), bool(self._initial)
        if is_given:
            params = self._initial.pop(0)
            self.suggested(params)
            if not self._searched.contains(params):
                self._outside.add(trial_id)
                return {PARAMS: json.dumps(params)}
            self.study.enqueue_trial(_encoded(self._searched, params))
        else:
            self.study.sampler = build_sampler(self._config, self._draws.next_seed())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Define-by-run function")  # a sampler may think; how long is measured
            params = cast("Params", super().suggest(trial_id))
        if not is_given:
            self.suggested(params)
        self.suggest_s.append(perf_counter() - began)
        return {PARAMS: json.dumps(params)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keep an epoch's value until its trial ends: one that diverges reports none, and Optuna takes none back."""
        if math.isfinite(result["objective"]):
            self._epochs.setdefault(trial_id, {})[int(result["epoch"])] = result["objective"]

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna how the trial ended. One that ended with the search counts as failed, and samplers ignore those:
        a spent budget says nothing about the trial's parameters.
        """
        if trial_id in self._outside:
            return
        error = error or (result is not None and result.get("state") in ("failed", "closed"))
        if result is not None and not error:
            self.on_trial_result(trial_id, result)
        epochs, final = self._epochs.pop(trial_id, {}), result or {}
        several = isinstance(self.metric, list)
        if not several and not error and final.get("state") != "diverged":
            for epoch, value in epochs.items():
                self._ot_trials[trial_id].report(value, epoch)
        values = [final.get(name) for name in (self.metric if several else [self.metric])]
        whole = all(value is not None and math.isfinite(value) for value in values)
        finished = not error and final.get("state") == "finished" and whole
        # Of several objectives what did not finish has failed, as `_frozen` says of it after a restart.
        super().on_trial_complete(trial_id, result if finished else None, error or (several and not finished))


def build_sampler(config: SearchConfig, seed: int) -> BaseSampler:
    """Optuna's sampler of that name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match config.sampler:
            case "tpe":
                return TPESampler(
                    seed=seed,
                    n_startup_trials=config.startup_trials,
                    multivariate=True,
                    group=True,
                    constant_liar=True,
                )
            case "gp":
                return GPSampler(seed=seed, n_startup_trials=config.startup_trials)
            case "cmaes":
                return CmaEsSampler(seed=seed, n_startup_trials=config.startup_trials, warn_independent_sampling=False)
            case "random":
                return RandomSampler(seed=seed)


def importances(study: optuna.Study, objectives: int) -> dict[str, float] | None:
    """How much each field mattered to the first objective, by fANOVA; None where too little is known."""
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if len({trial.values[0] for trial in complete}) < 2:
        return None  # Optuna would say that all fields matter alike
    target = _first_value if objectives > 1 else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dict(optuna.importance.get_param_importances(study, target=target)) or None
    except (ValueError, RuntimeError, ZeroDivisionError):
        return None


def _first_value(trial: FrozenTrial) -> float:
    return trial.values[0]


def _frozen(space: Space, record: TrialRecord, *, several: bool) -> FrozenTrial | None:
    params = _encoded(space, record.params)
    known = {parameter.field: parameter for parameter in space.parameters}
    distributions = {field: _distribution(known[field]) for field in params}
    values = [value for value in record.values if value is not None and math.isfinite(value)]
    whole = bool(values) and len(values) == len(record.values)
    if record.state == "finished" and whole:
        return create_trial(state=TrialState.COMPLETE, values=values, params=params, distributions=distributions)
    if record.state == "failed" or several:
        return create_trial(state=TrialState.FAIL, params=params, distributions=distributions)
    best = record.values[0] if values else None
    last = int(record.history[-1]["epoch"]) if record.history else 0
    reports = {} if record.state == "diverged" or best is None else {last: best}
    return create_trial(
        state=TrialState.PRUNED,
        value=next(iter(reports.values()), None),
        params=params,
        distributions=distributions,
        intermediate_values=reports,
    )


def _encoded(space: Space, params: Params) -> dict[str, Plain]:
    """As Optuna holds them: categories by their text."""
    known = {parameter.field: parameter for parameter in space.parameters}
    return {field: text_of(value) if known[field].kind == "categorical" else value for field, value in params.items()}


def _distribution(parameter: Parameter) -> BaseDistribution:
    """The one that `Parameter.suggest` asks for."""
    match parameter.kind:
        case "categorical":
            return CategoricalDistribution([text_of(choice) for choice in parameter.choices])
        case "int":
            return IntDistribution(int(parameter.low), int(parameter.high))
        case "uniform":
            return FloatDistribution(parameter.low, parameter.high)
        case "log_uniform":
            return FloatDistribution(parameter.low, parameter.high, log=True)
