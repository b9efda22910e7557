"""A searched field: the values it may take, and when it counts at all. Torch-free."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

Kind = Literal["categorical", "uniform", "log_uniform", "int"]
KINDS: tuple[str, ...] = get_args(Kind)
Plain = str | int | float | bool | tuple[Any, ...] | None
"""A value of a field."""
Params = dict[str, Plain]
"""Values by dotted field."""


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


def text_of(value: Plain) -> str:
    """A value as text that tells it from every other one: JSON."""
    return json.dumps(value)
