"""A search space: fields of the job, the values each may take, and when it counts at all. Torch-free.

"optimizer.learning_rate" = { log_uniform = [0.001, 0.3] }
"freezing.freeze_depth" = { int = [0, 5] }
"schedule.kind" = { categorical = ["cosine", "one_cycle"] }
"schedule.one_cycle_rise" = { uniform = [0.1, 0.5], when = { "schedule.kind" = ["one_cycle"] } }
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, Literal, Protocol, cast, get_args

import numpy as np
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.identity import belongs
from ray_jobs.job.toml import check, dotted_fields
from ray_jobs.job.toml_codec import UNSET, merged, nearest

Kind = Literal["categorical", "uniform", "log_uniform", "int"]
KINDS: tuple[str, ...] = get_args(Kind)
Plain = str | int | float | bool | tuple[Any, ...] | None
"""A value of a field."""
Params = dict[str, Plain]
"""Values by dotted field."""

_SHARED = {
    "seed": "trials are compared under one seed",
    "training.reduction": "it is how workers add, not what they learn",
    "schedule.epochs": "all trials have the schedule's whole length before them",
    "data.source": "every source shows the same views",
}
_DATA_ONCE = (
    "rename_classes", "ignore_classes", "class_order", "val_fraction", "test_fraction", "bit_depth", "folds", "fold",
    "on_unreadable",
)  # fmt: skip
_EXAMPLES = {
    "categorical": "{ categorical = [0.0, 0.1] }",
    "uniform": "{ uniform = [0.0, 0.5] }",
    "log_uniform": "{ log_uniform = [0.001, 0.3] }",
    "int": "{ int = [0, 5] }",
}
_DRAWN = 300
"""Points that are drawn to find combinations that the job's model refuses."""
_REASONS = 3
"""Refused points that an error shows."""


class Suggest(Protocol):
    """What Optuna's trials offer."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number in low..high."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number in low..high."""
        ...

    def suggest_categorical(self, name: str, choices: list[str]) -> str:
        """One of them."""
        ...


@dataclass(frozen=True)
class Parameter:
    """One searched field."""

    field: str
    kind: Kind
    low: float = 0.0
    high: float = 0.0
    choices: tuple[Plain, ...] = ()
    when: tuple[tuple[str, tuple[Plain, ...]], ...] = ()
    """Fields and their values under which this one counts; all must hold."""

    def holds(self, params: Mapping[str, Plain]) -> bool:
        """Whether it counts, given those before it."""
        return all(field in params and params[field] in values for field, values in self.when)

    def contains(self, value: Plain) -> bool:
        """Whether it may take a value."""
        if self.kind == "categorical":
            return any(value == choice and type(value) is type(choice) for choice in self.choices)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high and (self.kind != "int" or value == int(value))

    def suggest(self, trial: Suggest) -> Plain:
        """A value of Optuna's choice. Categories go by their text: Optuna stores no lists."""
        match self.kind:
            case "categorical":
                texts = [text_of(choice) for choice in self.choices]
                return self.choices[texts.index(trial.suggest_categorical(self.field, texts))]
            case "int":
                return trial.suggest_int(self.field, int(self.low), int(self.high))
            case "uniform":
                return trial.suggest_float(self.field, self.low, self.high)
            case "log_uniform":
                return trial.suggest_float(self.field, self.low, self.high, log=True)

    def to_json(self) -> dict[str, Any]:
        """Plain values, as search.json has them."""
        when = {field: list(values) for field, values in self.when}
        if self.kind == "categorical":
            return {"field": self.field, "kind": self.kind, "choices": list(self.choices), "when": when}
        return {"field": self.field, "kind": self.kind, "low": self.low, "high": self.high, "when": when}


@dataclass(frozen=True)
class Space:
    """The searched fields, each behind those that its conditions name."""

    parameters: tuple[Parameter, ...]

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> "Space":
        """From the [space] table of a file. Raises ConfigError that names every problem."""
        found, problems = list[Parameter](), list[str]()
        for field, said in _flattened(table).items():
            try:
                found.append(_parameter(field, said))
            except ConfigError as error:
                problems.append(str(error))
        if not found and not problems:
            problems.append(
                'the space is empty; name a field and its values, such as "optimizer.learning_rate" = '
                "{ log_uniform = [0.001, 0.3] }"
            )
        problems += _unfit_conditions(found)
        if problems:
            raise ConfigError("\n".join(problems))
        return cls(tuple(_parents_first(found)))

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


def text_of(value: Plain) -> str:
    """A value as text that tells it from every other one: JSON."""
    return json.dumps(value)


def searchable_fields() -> dict[str, FieldInfo]:
    """Dotted names of the fields that trials may differ in, with what pydantic knows of them."""
    return {
        name: field
        for name, section, field in dotted_fields()
        if belongs(section, field) and name not in _SHARED and name not in {f"data.{each}" for each in _DATA_ONCE}
    }


def _parameter(field: str, said: Mapping[str, Any]) -> Parameter:
    known = searchable_fields()
    if field not in known:
        raise ConfigError(_not_searchable(field, list(known)))
    kinds = [name for name in said if name in KINDS]
    unknown = [name for name in said if name not in (*KINDS, "when")]
    if len(kinds) != 1 or unknown:
        what = f"has {unknown[0]!r}" if unknown else f"has {' and '.join(kinds) or 'none of them'}"
        raise ConfigError(f"space {field}: {what}; give one of {', '.join(KINDS)}, and if wanted when")
    kind, values = cast("Kind", kinds[0]), said[kinds[0]]
    if not isinstance(values, list) or not values:
        raise ConfigError(f"space {field}: {kind} = {values!r} is no list; write {_EXAMPLES[kind]}")
    listed = cast("list[Any]", values)
    when = tuple((name, _condition(name, choice)) for name, choice in _flattened_when(said.get("when", {})).items())
    if kind != "categorical":
        low, high = _bounds(field, kind, listed)
        for bound in (low, high):
            _read(field, bound)
        return Parameter(field, kind, low, high, when=when)
    choices = tuple(_read(field, value) for value in listed)
    if len({text_of(choice) for choice in choices}) < len(choices):
        raise ConfigError(f"space {field}: {listed} names a value twice; remove it")
    return Parameter(field, kind, choices=choices, when=when)


def _bounds(field: str, kind: Kind, listed: list[Any]) -> tuple[float, float]:
    numbers = [value for value in listed if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(listed) != 2 or len(numbers) != 2 or not all(math.isfinite(number) for number in numbers):
        raise ConfigError(f"space {field}: {kind} = {listed} is no pair of numbers; write {_EXAMPLES[kind]}")
    low, high = numbers
    if low >= high:
        raise ConfigError(f"space {field}: {kind} = {listed} has no room between its bounds; the lower one comes first")
    if kind == "log_uniform" and low <= 0:
        raise ConfigError(f"space {field}: log_uniform = {listed} must be above 0; use uniform, or a higher bound")
    if kind != "int":
        return float(low), float(high)
    if not (isinstance(low, int) and isinstance(high, int)):
        raise ConfigError(f"space {field}: int = {listed} must be whole numbers; use uniform for others")
    return low, high


def _read(field: str, value: Any) -> Plain:
    """A value as the job's model holds it: of the field's type, a list as a tuple, "none" as None where it may be.

    Raises ConfigError for a value that the field cannot have; what contradicts other fields is found by points.
    """
    info = searchable_fields()[field]
    kinds = get_args(info.annotation)
    if value == UNSET and NoneType in kinds and str not in kinds:
        return None
    try:
        read = TypeAdapter[Any](cast("Any", Annotated)[info.annotation, info]).validate_json(
            json.dumps(value), strict=True
        )
    except (ValidationError, TypeError) as error:
        said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "no value that a job can hold"
        raise ConfigError(f"space {field}: {value!r}: {said[:1].lower()}{said[1:]}") from error
    return cast("Plain", read)


def _condition(field: str, choice: Any) -> tuple[Plain, ...]:
    listed = cast("list[Any]", choice) if isinstance(choice, list) else [choice]
    return tuple(_read(field, each) if field in searchable_fields() else each for each in listed)


def _not_searchable(field: str, known: list[str]) -> str:
    every = [name for name, _, _ in dotted_fields()]
    if field in every:
        reason = _SHARED.get(field) or (
            "the data are indexed and split once for all trials"
            if field.startswith("data.") and field.removeprefix("data.") in _DATA_ONCE
            else "it does not change what a run learns"
        )
        return f"space {field}: cannot be searched, since {reason}; set it in the job"
    near = nearest(field, known)
    return f"space {field}: unknown field; " + (
        f"did you mean {' or '.join(near)}?" if near else "`resnet-dist train --print-config` has them all"
    )


def _unfit_conditions(parameters: list[Parameter]) -> list[str]:
    known = {parameter.field: parameter for parameter in parameters}
    problems: list[str] = []
    for parameter in parameters:
        for field, values in parameter.when:
            other = known.get(field)
            if other is None:
                problems.append(
                    f"space {parameter.field}: its condition names {field}, which is not in the space; add it, or "
                    "leave the condition out"
                )
            else:
                if not values:
                    problems.append(
                        f"space {parameter.field}: its condition gives {field} no value, so it would never count; name "
                        "one, or leave the condition out"
                    )
                wrong = [value for value in values if not other.contains(value)]
                problems += [
                    f"space {parameter.field}: its condition asks for {field}={value!r}, which {field} never is; use "
                    f"{', '.join(map(repr, other.to_json().get('choices') or (other.low, other.high)))}"
                    for value in wrong
                ]
    return problems


def _parents_first(parameters: list[Parameter]) -> list[Parameter]:
    """In the order given, but each behind what its conditions name. Raises ConfigError for a circle."""
    left, ordered = list(parameters), list[Parameter]()
    while left:
        placed = {parameter.field for parameter in ordered}
        ready = next((each for each in left if all(field in placed for field, _ in each.when)), None)
        if ready is None:
            raise ConfigError(
                f"space: the conditions of {' and '.join(each.field for each in left)} go round in a circle; drop one"
            )
        left.remove(ready)
        ordered.append(ready)
    return ordered


def _flattened(table: Mapping[str, Any], prefix: str = "") -> dict[str, Mapping[str, Any]]:
    """Fields by dotted names, whether written as "optimizer.learning_rate" or as optimizer.learning_rate."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, value in table.items():
        key, added = f"{prefix}{name}", dict[str, Mapping[str, Any]]()
        if not isinstance(value, Mapping):
            raise ConfigError(f"space {key}: {value!r} is no table; write {_EXAMPLES['uniform']}")
        below = cast("Mapping[str, Any]", value)
        if any(isinstance(each, Mapping) for each in below.values()) and not any(kind in below for kind in KINDS):
            added = _flattened(below, f"{key}.")
        else:
            added[key] = below
        if twice := sorted(added.keys() & found.keys()):
            raise ConfigError(f"space {twice[0]}: is there twice, with quotes and without; remove one")
        found |= added
    return found


def _flattened_when(when: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(when, Mapping):
        raise ConfigError(f'space: when = {when!r} is no table; write when = {{ "schedule.kind" = ["one_cycle"] }}')
    found: dict[str, Any] = {}
    for name, value in cast("Mapping[str, Any]", when).items():
        found |= (
            _flattened_when(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
        )
    return found


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
