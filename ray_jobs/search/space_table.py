"""Reading and checking the [space] table of a search file: one parameter for each field. Torch-free."""

import json
import math
from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, cast, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from ray_jobs.errors import ConfigError
from ray_jobs.job.identity import belongs
from ray_jobs.job.toml import dotted_fields
from ray_jobs.job.toml_codec import UNSET, nearest
from ray_jobs.search.parameter import KINDS, Kind, Parameter, Plain, text_of

_SHARED = {
    "seed": "trials are compared under one seed",
    "training.reduction": "it is how workers add, not what they learn",
    "schedule.epochs": "all trials have the schedule's whole length before them",
    "data.source": "every source shows the same views",
    "distillation.teacher": "all trials of a search learn from one teacher",
    "distillation.teacher_digest": "it is that of distillation.teacher, which all trials share",
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


def parameters_of(table: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """The table's parameters, each behind those that its conditions name. Raises ConfigError with every problem."""
    found, problems = list[Parameter](), list[str]()
    for field, entry in _flattened(table).items():
        try:
            found.append(_parameter(field, entry))
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
    return tuple(_parents_first(found))


def searchable_fields() -> dict[str, FieldInfo]:
    """Dotted names of the fields that trials may differ in, with what pydantic knows of them."""
    return {
        name: field
        for name, section, field in dotted_fields()
        if belongs(section, field) and name not in _SHARED and name not in {f"data.{each}" for each in _DATA_ONCE}
    }


def _parameter(field: str, entry: Mapping[str, Any]) -> Parameter:
    searchable = searchable_fields()
    if field not in searchable:
        raise ConfigError(_not_searchable(field, list(searchable)))
    kinds = [name for name in entry if name in KINDS]
    unknown = [name for name in entry if name not in (*KINDS, "when")]
    if len(kinds) != 1 or unknown:
        what = f"has {unknown[0]!r}" if unknown else f"has {' and '.join(kinds) or 'none of them'}"
        raise ConfigError(f"space {field}: {what}; give one of {', '.join(KINDS)}, and if wanted when")
    kind, values = cast("Kind", kinds[0]), entry[kinds[0]]
    if not isinstance(values, list) or not values:
        raise ConfigError(f"space {field}: {kind} = {values!r} is no list; write {_EXAMPLES[kind]}")
    listed = cast("list[Any]", values)
    when = tuple((name, _condition(name, choice)) for name, choice in _flattened_when(entry.get("when", {})).items())
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
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "no value that a job can hold"
        raise ConfigError(f"space {field}: {value!r}: {reason[:1].lower()}{reason[1:]}") from error
    return cast("Plain", read)


def _condition(field: str, choice: Any) -> tuple[Plain, ...]:
    listed = cast("list[Any]", choice) if isinstance(choice, list) else [choice]
    return tuple(_read(field, each) if field in searchable_fields() else each for each in listed)


def _not_searchable(field: str, searchable: list[str]) -> str:
    every = [name for name, _, _ in dotted_fields()]
    if field in every:
        reason = _SHARED.get(field) or (
            "the data are indexed and split once for all trials"
            if field.startswith("data.") and field.removeprefix("data.") in _DATA_ONCE
            else "it does not change what a run learns"
        )
        return f"space {field}: cannot be searched, since {reason}; set it in the job"
    near = nearest(field, searchable)
    return f"space {field}: unknown field; " + (
        f"did you mean {' or '.join(near)}?" if near else "`resnet-dist train --print-config` has them all"
    )


def _unfit_conditions(parameters: list[Parameter]) -> list[str]:
    by_field = {parameter.field: parameter for parameter in parameters}
    problems: list[str] = []
    for parameter in parameters:
        for field, values in parameter.when:
            other = by_field.get(field)
            if other is None:
                problems.append(
                    f"space {parameter.field}: its condition names {field}, which is not in the space; add it, or "
                    "remove the condition"
                )
            else:
                if not values:
                    problems.append(
                        f"space {parameter.field}: its condition gives {field} no value, so it would never count; name "
                        "one, or remove the condition"
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
                f"space: the conditions of {' and '.join(each.field for each in left)} go round in a circle; remove one"
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
