"""A search space: fields of the job, the values each may take, and when it counts at all. Torch-free.

"optimizer.learning_rate" = { log_uniform = [0.001, 0.3] }
"freezing.freeze_depth" = { int = [0, 5] }
"schedule.kind" = { categorical = ["cosine", "one_cycle"] }
"schedule.one_cycle_rise" = { uniform = [0.1, 0.5], when = { "schedule.kind" = ["one_cycle"] } }
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check
from ray_jobs.job.toml_codec import merged
from ray_jobs.search.parameter import Parameter, Params, Plain, Suggest
from ray_jobs.search.space_table import parameters_of

_DRAWN = 300
"""Points that are drawn to find combinations that the job's model refuses."""
_REASONS = 3
"""Refused points that an error shows."""


@dataclass(frozen=True)
class Space:
    """The searched fields, each behind those that its conditions name."""

    parameters: tuple[Parameter, ...]

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> "Space":
        """From the [space] table of a file. Raises ConfigError that names every problem."""
        return cls(parameters_of(table))

    def suggest(self, trial: Suggest) -> Params:
        """A point of the space: Optuna's define-by-run function."""
        params: Params = {}
        for parameter in self.parameters:
            if parameter.holds(params):
                params[parameter.field] = parameter.suggest(trial)
        return params

    def default(self, job: JobConfig) -> Params:
        """The job's own values of the fields that count under them; they need not lie in the space."""
        params: Params = {}
        for parameter in self.parameters:
            if parameter.holds(params):
                value = value_of(job, parameter.field)
                # A field for numbers holds 2.0 where whole ones are searched: as JSON, not what is suggested.
                if parameter.kind == "int" and isinstance(value, float) and parameter.contains(value):
                    value = int(value)
                params[parameter.field] = value
        return params

    def contains(self, params: Params) -> bool:
        """Whether a point lies in the space."""
        active = [parameter for parameter in self.parameters if parameter.holds(params)]
        return {each.field for each in active} == params.keys() and all(
            each.contains(params[each.field]) for each in active
        )

    def check(self, job: JobConfig) -> None:
        """Raise ConfigError where the job's model refuses points of the space: each bound and choice by itself, and
        some hundred points, since fields may contradict each other.
        """
        refused: dict[str, Params] = {}
        for seed in range(_DRAWN):
            params = self.suggest(_Drawn(seed))
            try:
                job_with(job, params)
            except ConfigError as error:
                refused.setdefault(str(error), params)
        if refused:
            lines = [f"{reason} (with {_shown(params)})" for reason, params in list(refused.items())[:_REASONS]]
            raise ConfigError(
                "the space has points that no job can have; narrow it, or say with `when` under which values a field "
                "counts:\n" + "\n".join(lines)
            )

    def to_json(self) -> list[dict[str, Any]]:
        """Plain values."""
        return [parameter.to_json() for parameter in self.parameters]


def job_with(job: JobConfig, params: Mapping[str, Plain]) -> JobConfig:
    """The job with other values of some fields. Raises ConfigError where they do not go together."""
    tree: dict[str, Any] = {}
    for field, value in params.items():
        *sections, name = field.split(".")
        below = tree
        for section in sections:
            below = below.setdefault(section, {})
        below[name] = value
    return check(merged(job.model_dump(), tree))


def value_of(job: JobConfig, field: str) -> Plain:
    """A field's value by its dotted name."""
    value: Any = job
    for name in field.split("."):
        value = getattr(value, name)
    return value


def _shown(params: Params) -> str:
    return ", ".join(f"{field}={value}" for field, value in params.items())


class _Drawn:
    """Points at random and at the bounds, to be checked."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:  # noqa: ARG002
        share = float(self._random.choice([0.0, 1.0, self._random.random()]))
        if log:
            return float(np.clip(math.exp(math.log(low) + share * (math.log(high) - math.log(low))), low, high))
        return low + share * (high - low)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:  # noqa: ARG002
        return int(self._random.integers(low, high, endpoint=True))

    def suggest_categorical(self, name: str, choices: list[str]) -> str:  # noqa: ARG002
        return choices[int(self._random.integers(len(choices)))]
