"""One small figure for each searched field: its values against an objective."""

import math
from collections.abc import Sequence
from typing import Any

from ray_jobs.report.page import Figure, FigureGrid, Prose
from ray_jobs.report.search_figures.categories import Categories, spread
from ray_jobs.report.search_figures.framing import framed, outside
from ray_jobs.report.search_figures.states import NEUTRAL, legend, state_traces
from ray_jobs.report.search_record import SearchedField, SearchRecord, Trial
from ray_jobs.report.wording import clipped, figure_text, setting
from ray_jobs.terminal.counted import counted

_MOST_FIELDS = 18
_MOST_TRIALS = 400
_ENOUGH_FOR_A_BOX = 5
_JITTER = 0.36
"""Width over which the trials of one choice are spread."""
_MARGIN = 0.06
"""Share of an axis that stays free at both ends."""


def slices(record: SearchRecord, objective: int) -> tuple[FigureGrid | Prose, ...]:
    """Slices of the most important fields, and a word on those that are not drawn."""
    trials = [trial for trial in record.shown(_MOST_TRIALS, objective) if trial.value(objective) is not None]
    if not trials or not record.space:
        return (Prose("No trial has a value to draw." if record.space else "No field was searched."),)
    figures = [_slice(record, field, trials, objective) for field in record.fields[:_MOST_FIELDS]]
    drawn = tuple(figure for figure in figures if figure.data)
    empty = ", ".join(figure.title for figure in figures if not figure.data)
    notes = [f"No trial with a value has one of {empty}."] if empty else []
    if len(record.space) > _MOST_FIELDS:
        notes.append(f"The {_MOST_FIELDS} most important of {len(record.space)} fields.")
    grid = (FigureGrid(drawn, legend(record, "★", "☐")),) if drawn else ()
    return (*map(Prose, notes), *grid)


def condition(field: SearchedField) -> str:
    """When a field is searched at all; empty for always."""
    return " and ".join(
        f"{clipped(name, 60)} is {' or '.join(clipped(setting(value), 40) for value in values)}"
        for name, values in (field.when or {}).items()
    )


def _slice(record: SearchRecord, field: SearchedField, trials: Sequence[Trial], objective: int) -> Figure:
    using = [trial for trial in trials if field.field in trial.params]
    notes = [f"{counted(len(using), 'trial')} with a value"]
    if field.when:
        notes.append(f"searched where {condition(field)}")
    frame, beyond = framed(value for trial in using if (value := trial.value(objective)) is not None)
    metric = figure_text(record.objectives[objective].metric, 26)
    layout: dict[str, Any] = {
        "yaxis": {"title": {"text": metric}, "nticks": 5, "zeroline": False} | frame,
        "margin": {"t": 10, "r": 15, "b": 35, "l": 50},
        "hovermode": "closest",
        "showlegend": False,
    }
    data: list[dict[str, Any]] = []
    if field.kind == "categorical":
        categories = Categories.of(field, using)
        places = {trial.number: categories.place(trial.params[field.field]) for trial in using}
        data += _boxes(places, using, objective)
        data += state_traces(
            record, using, lambda t: places[t.number] + spread(t) * _JITTER, lambda t: t.value(objective), size=6
        )
        most = 60 // max(len(categories.names), 4)
        layout["xaxis"] = {
            "tickvals": list(range(len(categories.names))),
            "ticktext": [figure_text(name, most) for name in categories.names],
            "range": [-0.6, max(len(categories.names), 1) - 0.4], "showgrid": False, "zeroline": False,
        }  # fmt: skip
    else:
        data += state_traces(
            record, using, lambda trial: field.position(trial.params[field.field]), lambda t: t.value(objective), size=6
        )
        layout["xaxis"] = _number_axis(field, using)
    return Figure(
        title=clipped(field.field, 60),
        caption=f"{'; '.join(notes)}.{outside(beyond)}",
        data=tuple(data),
        layout=layout,
        height=260,
    )


def _number_axis(field: SearchedField, trials: Sequence[Trial]) -> dict[str, Any]:
    """Over what was searched and what the trials have, as the default may lie outside; log10 where logarithmic."""
    settings = [field.low, field.high, *(trial.params[field.field] for trial in trials)]
    places = [place for each in settings if (place := field.position(each)) is not None]
    ends = [math.log10(place) if field.is_log else place for place in (min(places), max(places))] if places else [0, 1]
    margin = (ends[1] - ends[0]) * _MARGIN or abs(ends[0]) * _MARGIN or 1.0
    axis: dict[str, Any] = {"range": [ends[0] - margin, ends[1] + margin], "nticks": 6, "zeroline": False}
    if field.is_log:
        axis |= {"type": "log", "exponentformat": "power", "dtick": _decades(field), "tickfont": {"size": 10}}
    return axis


def _decades(field: SearchedField) -> int | str:
    """Ticks at each decade where there are several, else also at twice and five times them."""
    low, high = field.low or 0, field.high or 0
    return 1 if low > 0 and math.isfinite(high) and high / low >= 1e3 else "D2"


def _boxes(places: dict[int, int], trials: Sequence[Trial], objective: int) -> list[dict[str, Any]]:
    """A box for each place where enough trials are; `places` by the trial's number."""
    boxes: list[dict[str, Any]] = []
    for place in sorted(set(places.values())):
        values = [trial.value(objective) for trial in trials if places[trial.number] == place]
        if len(values) >= _ENOUGH_FOR_A_BOX:
            boxes.append(
                {
                    "type": "box", "x": [place] * len(values), "y": values, "boxpoints": False, "width": 0.6,
                    "line": {"color": NEUTRAL, "width": 1}, "fillcolor": "rgba(138,146,156,0.15)", "hoverinfo": "skip",
                }
            )  # fmt: skip
    return boxes
