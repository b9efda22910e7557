"""The choices of a categorical field as places on an axis; the rest of too many share the last place."""

from collections.abc import Sequence
from dataclasses import dataclass

from ray_jobs.report.search_record import SearchedField, Setting, Trial
from ray_jobs.report.wording import setting

_MOST = 12
_GOLDEN = 0.6180339887


@dataclass(frozen=True)
class Categories:
    """Places 0, 1, .. and their names."""

    names: tuple[str, ...]
    _choices: tuple[Setting, ...]

    @classmethod
    def of(cls, field: SearchedField, trials: Sequence[Trial]) -> "Categories":
        """The choices of the space, then others that trials have, such as the default."""
        found: list[Setting] = list(field.choices or ())
        for trial in trials:
            if field.field in trial.params and trial.params[field.field] not in found:
                found.append(trial.params[field.field])
        if len(found) <= _MOST:
            return cls(tuple(setting(choice) for choice in found), tuple(found))
        kept = found[: _MOST - 1]
        return cls((*(setting(choice) for choice in kept), f"{len(found) - len(kept)} others"), tuple(kept))

    def place(self, choice: Setting) -> int:
        """Where a choice stands."""
        return self._choices.index(choice) if choice in self._choices else len(self._choices)


def spread(trial: Trial) -> float:
    """-0.5 .. 0.5, unlike for trials of near numbers, so that marks of one choice stay apart."""
    return (trial.number * _GOLDEN) % 1 - 0.5
