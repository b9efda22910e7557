"""The tables of a search's report."""

import math

from ray_jobs.report.page import Cell, Table
from ray_jobs.report.search_figures.slices import condition
from ray_jobs.report.search_record import SearchedField, SearchRecord, Setting, Trial
from ray_jobs.report.wording import number, setting
from ray_jobs.terminal.counted import counted

_MOST_TRIALS = 1000
_MOST_FIELDS = 40


def settings_table(record: SearchRecord) -> Table:
    """Each searched field: the best trial's value, the default's, and what was searched."""
    best, default = record.best_trial, record.default_trial
    return Table(
        caption="Searched fields, the most important first",
        columns=("field", "best", "default", "searched"),
        rows=tuple(
            (field.field, _setting_of(best, field), _setting_of(default, field), _searched(field))
            for field in record.fields
        ),
        is_sortable=False,
    )


def trial_table(record: SearchRecord) -> Table:
    """Every trial with its settings; the best ones where they are many."""
    trials = record.shown(_MOST_TRIALS)
    fields = record.fields[:_MOST_FIELDS]
    some = (
        f"{len(trials)} of {len(record.trials)} trials, the best among them" if len(trials) < len(record.trials) else ""
    )
    return Table(
        caption=f"{some or counted(len(trials), 'trial')}; a column's name sorts by it",
        columns=(
            "trial", "state", "remarks", *(objective.metric for objective in record.objectives), "epochs",
            *(field.field for field in fields), "slot", "seconds", "error",
        ),
        rows=tuple(_row(record, trial, fields) for trial in trials),
    )  # fmt: skip


def _row(record: SearchRecord, trial: Trial, fields: tuple[SearchedField, ...]) -> tuple[Cell, ...]:
    is_remarkable = {
        "best": trial.number == record.best,
        "default": trial.is_default,
        "Pareto front": len(record.objectives) > 1 and trial.number in record.front,
        "from an earlier search": trial.reused_record,
    }
    seconds = None if trial.ended_s is None or trial.started_s is None else trial.ended_s - trial.started_s
    return (
        trial.number,
        trial.state,
        ", ".join(remark for remark, is_so in is_remarkable.items() if is_so) or None,
        *trial.values,
        trial.epochs,
        *(_cell(trial.params[field.field]) if field.field in trial.params else None for field in fields),
        trial.slot,
        None if seconds is None or not math.isfinite(seconds) else round(seconds, 1),
        trial.error or None,
    )


def _cell(value: Setting) -> Cell:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else setting(value)


def _setting_of(trial: Trial | None, field: SearchedField) -> Cell:
    return _cell(trial.params[field.field]) if trial is not None and field.field in trial.params else None


def _searched(field: SearchedField) -> str:
    if field.kind == "categorical":
        what = ", ".join(setting(choice) for choice in field.choices or ())
    else:
        scale = {"log_uniform": ", on a log scale", "int": ", whole numbers"}.get(field.kind, "")
        what = f"{number(field.low)} .. {number(field.high)}{scale}"
    return f"{what}; where {condition(field)}" if field.when else what
