"""search.json as a report reads it: checked once, bounded, with numbers that are not finite as numbers again."""

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ray_jobs.report.wording import clipped
from resnet_dist.errors import RunError

SCHEMA = 1
MAX_TRIALS = 10_000
_MAX_TEXT = 300
_MAX_ERROR = 2000
_GREATEST = 1e300
_NOT_FINITE = {"nan", "inf", "-inf"}

State = Literal["finished", "stopped", "diverged", "failed", "running"]
Setting = bool | int | float | str | None
"""A value of a searched field; lists and tables are their JSON text."""


def _number(value: object) -> object:
    if isinstance(value, str):
        if value not in _NOT_FINITE:
            raise ValueError('a number, "nan", "inf" or "-inf" is due')
        return float(value)
    if isinstance(value, bool):
        raise ValueError("a number is due")
    return _spannable(value) if isinstance(value, int | float) else value


def _spannable(value: float) -> float:
    """Spans between numbers must be numbers, too: beyond 1e300 is infinite, below 1e-300 is zero."""
    if abs(value) > _GREATEST:
        return math.inf if value > 0 else -math.inf
    return 0.0 if abs(value) < 1 / _GREATEST else value


def _printable(text: str) -> str:
    """JSON can hold half a surrogate pair, which no file can."""
    return text.encode(errors="replace").decode()


def _short(text: str) -> str:
    return clipped(_printable(text), _MAX_TEXT)


def _setting(value: object) -> object:
    if isinstance(value, list | dict):
        value = json.dumps(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _spannable(value)
    return _short(value) if isinstance(value, str) else value


Number = Annotated[float, BeforeValidator(_number), Field(strict=True)]
Count = Annotated[int, Field(ge=0, le=2**53, strict=True)]
Text = Annotated[str, Field(strict=True), AfterValidator(_short)]
Error = Annotated[str, Field(strict=True), AfterValidator(lambda text: _printable(text)[:_MAX_ERROR])]
Plain = Annotated[Setting, BeforeValidator(_setting)]


class _Part(BaseModel):
    """What this version does not know is left out: a newer writer may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Job(_Part):
    """What every trial trains."""

    arch: Text
    epochs: Count
    image_size: tuple[Count, Count]
    """Height and width."""
    train: Count
    """Images; `val` likewise."""
    val: Count
    classes: Count


class Objective(_Part):
    """What is sought."""

    metric: Text
    direction: Literal["maximize", "minimize"]

    @property
    def wish(self) -> str:
        """ "more is better" or "less is better"."""
        return "more is better" if self.direction == "maximize" else "less is better"

    def cost(self, value: float) -> float:
        """Less is better, whatever the direction."""
        return -value if self.direction == "maximize" else value


class Latency(_Part):
    """How latency was measured."""

    how: Text


class SearchedField(_Part):
    """One dimension of the space."""

    field: Text
    """Dotted key of the job."""
    kind: Literal["log_uniform", "uniform", "int", "categorical"]
    low: Number | None = None
    high: Number | None = None
    choices: Annotated[tuple[Plain, ...], Field(max_length=1000)] | None = None
    when: dict[Text, Annotated[tuple[Plain, ...], Field(max_length=1000)]] | None = None
    """The field is searched only where each of these fields has one of these values."""

    @property
    def is_log(self) -> bool:
        """Whether its axis is logarithmic."""
        return self.kind == "log_uniform"

    def position(self, value: Setting) -> float | None:
        """A finite number as an axis can show it; None for anything else, such as a choice."""
        if self.kind == "categorical" or isinstance(value, bool | str) or value is None:
            return None
        return float(value) if math.isfinite(value) and (value > 0 or not self.is_log) else None


class Trial(_Part):
    """One sample of the search."""

    number: Count
    digest: Text
    state: State
    is_default: bool
    """Whether these are the job's own settings."""
    params: Annotated[dict[Text, Plain], Field(max_length=256)]
    values: tuple[Number | None, ...]
    """One for each objective; None where it came to none."""
    history: Annotated[tuple[dict[Text, Number | None], ...], Field(max_length=10_000)]
    """Numbers by metric key for each epoch, "epoch" among them."""
    epochs: Count
    """Epochs done."""
    reused_record: bool
    """Whether it was read from an earlier search instead of trained."""
    slot: Count | None
    """The place in the pool that trained it."""
    queued_s: Number | None
    """Seconds since the search first began; `started_s` and `ended_s` likewise."""
    started_s: Number | None
    ended_s: Number | None
    error: Error

    def value(self, objective: int = 0) -> float | None:
        """The finite value of an objective, else None."""
        value = self.values[objective]
        return value if value is not None and math.isfinite(value) else None


class Pool(_Part):
    """Where the slots' time went, in seconds."""

    slots: Count
    wall_s: Number
    startup_s: Number
    """Summed over slots, as are `waiting_s` and `training_s`."""
    waiting_s: Number
    training_s: Number


class Reuse(_Part):
    """Features of frozen trunks that were stored and read again."""

    hits: Count
    misses: Count
    stored_bytes: Count
    saved_s: Number


class Epochs(_Part):
    """Epochs that were trained, and those that the same trials would take without stopping any."""

    trained: Count
    full_search: Count


class Comparison(_Part):
    """Best against default on images that neither was chosen by; intervals are 95 %."""

    metric: Text
    best: Number
    best_interval: tuple[Number, Number]
    default: Number
    default_interval: tuple[Number, Number]
    difference: Number
    difference_interval: tuple[Number, Number]
    samples: Count


class SearchRecord(_Part):
    """A search, as far as it went."""

    name: Text
    made: Text
    """When the record was written, ISO 8601."""
    job: Job
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1, max_length=8)]
    latency: Latency | None
    space: Annotated[tuple[SearchedField, ...], Field(max_length=256)]
    sampler: Text
    scheduler: Text | None
    slots: Count
    workers_per_trial: Count
    trials: Annotated[tuple[Trial, ...], Field(max_length=MAX_TRIALS)]
    best: Count | None
    front: Annotated[tuple[Count, ...], Field(max_length=MAX_TRIALS)]
    importance: dict[Text, Number] | None
    """Share of the first objective's variation that each field explains, 0..1."""
    pool: Pool
    reuse: Reuse | None
    epochs: Epochs
    test: Comparison | None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        numbers = {trial.number for trial in self.trials}
        if len(numbers) < len(self.trials):
            raise ValueError("two trials have one number")
        for trial in self.trials:
            if len(trial.values) != len(self.objectives):
                raise ValueError(
                    f"trial {trial.number} has {len(trial.values)} values for {len(self.objectives)} objectives"
                )
        unknown = {*self.front, *([] if self.best is None else [self.best])} - numbers
        if unknown:
            raise ValueError(f"best and front name trials that are not there, such as {min(unknown)}")
        return self

    @property
    def best_trial(self) -> Trial | None:
        """The best trial, where there is one."""
        return next((trial for trial in self.trials if trial.number == self.best), None)

    @property
    def default_trial(self) -> Trial | None:
        """The trial of the job's own settings, where there is one."""
        return next((trial for trial in self.trials if trial.is_default), None)

    @property
    def fields(self) -> tuple[SearchedField, ...]:
        """The searched fields, the most important first, those of unknown importance in the space's order."""
        shares = self.importance or {}

        def unimportance(field: SearchedField) -> float:
            share = shares.get(field.field, 0.0)
            return -share if math.isfinite(share) else 0.0

        return tuple(sorted(self.space, key=unimportance))

    def shown(self, most: int, objective: int = 0) -> tuple[Trial, ...]:
        """At most `most` trials by number: the best half of them, the default, and of the others evenly many."""
        if len(self.trials) <= most:
            return tuple(sorted(self.trials, key=lambda trial: trial.number))

        def rank(trial: Trial) -> tuple[bool, float]:
            value = trial.value(objective)
            cost = math.inf if value is None else self.objectives[objective].cost(value)
            return (not (trial.is_default or trial.number == self.best), cost)

        ranked = sorted(self.trials, key=rank)
        kept, others = ranked[: most // 2], sorted(ranked[most // 2 :], key=lambda trial: trial.number)
        free = most - len(kept)
        kept += [others[index * len(others) // free] for index in range(free)]
        return tuple(sorted(kept, key=lambda trial: trial.number))


def read_search(search: Mapping[str, Any]) -> SearchRecord:
    """A search.json, parsed. Raises RunError when it is of another version or damaged."""
    schema = search.get("schema")
    if type(schema) is not int or schema != SCHEMA:
        raise RunError(
            f"search.json has schema {clipped(repr(schema), 40)}; this version reads {SCHEMA}: report with the version "
            "that wrote it, or start the search again to write it anew"
        )
    try:
        return SearchRecord.model_validate(search)
    except ValidationError as error:
        found = [f"{'.'.join(map(str, each['loc'])) or 'it'}: {each['msg']}" for each in _first(error, 3)]
        more = f" and {error.error_count() - 3} more" if error.error_count() > 3 else ""
        raise RunError(
            f"search.json is damaged ({clipped('; '.join(found), 500)}{more}); start the search again to write it anew "
            "from its trials"
        ) from error


def _first(error: ValidationError, most: int) -> list[Any]:
    """Without the values themselves, which may be long."""
    return list(error.errors(include_url=False, include_input=False, include_context=False))[:most]
