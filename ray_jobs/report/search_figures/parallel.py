"""Every trial as a line over all searched fields, ending at its objective. Drawn without WebGL, so that it prints."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ray_jobs.report.page import Figure
from ray_jobs.report.search_figures.categories import Categories, spread
from ray_jobs.report.search_figures.framing import framed
from ray_jobs.report.search_figures.states import BEST_COLOUR, NEUTRAL, about
from ray_jobs.report.search_record import SearchedField, SearchRecord, Trial
from ray_jobs.report.wording import clipped, figure_text
from ray_jobs.terminal.counted import counted

MOST_FIELDS = 10
_MOST_TRIALS = 300
_ABSENT = -0.13
"""The height of a field that a trial does not have; 0..1 is the axis."""
_EQUAL = 1e-12
"""Numbers so close, relative to their size, are one to an axis."""
_JITTER = 0.03


@dataclass(frozen=True)
class _Axis:
    """One upright axis: its title, ticks (height, text) and each trial's height, None for absent."""

    title: str
    ticks: tuple[tuple[float, str], ...]
    heights: tuple[float | None, ...]


def parallel(record: SearchRecord) -> Figure | None:
    """The most important fields; None where no trial has a value."""
    trials = [trial for trial in record.shown(_MOST_TRIALS) if trial.value() is not None]
    if not trials or not record.space:
        return None
    axes = [_field_axis(field, trials) for field in record.fields[:MOST_FIELDS]]
    sought = record.objectives[0]
    values = [value for trial in trials if (value := trial.value()) is not None]
    frame, beyond = framed(values)
    low, high = frame["range"] if beyond else _bounds(values)
    axes.append(
        _Axis(
            figure_text(sought.metric, 18),
            _ticks(low, high, lambda value: (value - low) / (high - low)),
            tuple(min(max((value - low) / (high - low), 0.0), 1.0) for value in values),
        )
    )
    has_absent = any(height is None for axis in axes for height in axis.heights)
    bottom = _ABSENT - 0.06 if has_absent else -0.05
    notes = [f"Lines end at {clipped(sought.metric, 60)} ({sought.wish}); a click on the legend hides a group."]
    if beyond:
        notes.append(f"{counted(beyond, 'value')} far off {'is' if beyond == 1 else 'are'} drawn at the axis' end.")
    if has_absent:
        notes.append("Below the axes: fields that a trial does not have, as they depend on others.")
    if len(record.space) > MOST_FIELDS:
        notes.append(f"The {MOST_FIELDS} most important of {len(record.space)} fields.")
    if len(record.trials) > _MOST_TRIALS:
        notes.append(f"{_MOST_TRIALS} of {len(record.trials)} trials, the best among them.")
    return Figure(
        title="Trials over all fields",
        caption=" ".join(notes),
        data=tuple(_lines(record, trials, axes)),
        layout={
            "xaxis": {"range": [-0.45, len(axes) - 0.6], "visible": False, "fixedrange": True},
            "yaxis": {"range": [bottom, 1.04], "visible": False, "fixedrange": True},
            "shapes": [
                {
                    "type": "line",
                    "x0": x,
                    "x1": x,
                    "y0": 0,
                    "y1": 1,
                    "layer": "below",
                    "line": {"color": NEUTRAL, "width": 1},
                }
                for x in range(len(axes))
            ],
            "annotations": _texts(axes, has_absent),
            "legend": {"orientation": "h", "y": -0.02, "yanchor": "top", "x": 0},
            "margin": {"t": 72, "r": 20, "b": 30, "l": 10},
            "hovermode": "closest",
        },
        height=480,
        min_width=95 * len(axes),
    )


def _field_axis(field: SearchedField, trials: Sequence[Trial]) -> _Axis:
    title = _title(field.field)
    if field.kind == "categorical":
        categories = Categories.of(field, trials)
        last = len(categories.names) - 1
        at = [place / last if last else 0.5 for place in range(last + 1)]
        heights = [
            at[categories.place(trial.params[field.field])] + spread(trial) * _JITTER
            if field.field in trial.params
            else None
            for trial in trials
        ]
        ticks = tuple((y, figure_text(name, 14)) for y, name in zip(at, categories.names, strict=True))
        return _Axis(title, ticks, tuple(heights))
    places = [field.position(trial.params.get(field.field)) for trial in trials]
    ends = [end for end in (field.position(field.low), field.position(field.high)) if end is not None]
    known = [place for place in (*places, *ends) if place is not None]
    low, high = _bounds([math.log(place) if field.is_log else place for place in known])

    def height(place: float) -> float:
        return ((math.log(place) if field.is_log else place) - low) / (high - low)

    ends_of_axis = (math.exp(low), math.exp(high)) if field.is_log else (low, high)
    return _Axis(
        title,
        _ticks(*ends_of_axis, height, is_log=field.is_log, is_whole=field.kind == "int") if known else (),
        tuple(None if place is None else height(place) for place in places),
    )


def _title(field: str) -> str:
    """A dotted key, its last three parts in a line each."""
    return "<br>".join(figure_text(part, 15) for part in field.split(".")[-3:])


def _ticks(
    low: float, high: float, height: Callable[[float], float], *, is_log: bool = False, is_whole: bool = False
) -> tuple[tuple[float, str], ...]:
    """Round numbers from `low` to `high`, about five, and their heights."""
    slack = 1e-9 * (high - low)
    if is_log:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        factors = (1,) if high / low > 1e2 else (1, 2, 5)
        places = [factor * 10.0**decade for decade in decades[:: -(-len(decades) // 8)] for factor in factors]
    else:
        power = 10.0 ** math.floor(math.log10((high - low) / 4))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * 5 >= high - low)
        step = max(round(step), 1) if is_whole else step
        places = [step * count for count in range(math.floor(low / step), math.ceil(high / step) + 1)]
    return tuple((height(place), f"{place:.4g}") for place in places if low - slack <= place <= high + slack)


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    """The least and the greatest, apart even where all are equal."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if high - low > _EQUAL * max(abs(low), abs(high)):
        return low, high
    pad = max(abs(low) * 0.01, 1e-9)
    return low - pad, high + pad


def _lines(record: SearchRecord, trials: Sequence[Trial], axes: Sequence[_Axis]) -> list[dict[str, Any]]:
    """Groups by rank; a trace can have one colour, so each group is one, its lines apart by gaps."""
    order = sorted(range(len(trials)), key=lambda row: record.objectives[0].cost(trials[row].value() or 0.0))
    tenth, quarter = max(len(order) // 10, 1), max(len(order) // 3, 2)
    best = [row for row in order if trials[row].number == record.best]
    rest = [row for row in order if row not in best]
    groups = (
        ("others", rest[quarter:], NEUTRAL, 1.0, 0.45),
        ("best third", rest[tenth:quarter], "#3182ce", 1.2, 0.75),
        ("best tenth", rest[:tenth], "#d5502d", 1.8, 0.9),
        ("best", best, BEST_COLOUR, 4.0, 1.0),
    )
    traces: list[dict[str, Any]] = []
    for name, rows, colour, width, opacity in groups:
        x: list[int | None] = []
        y: list[float | None] = []
        texts: list[str] = []
        for row in rows:
            heights = [axis.heights[row] for axis in axes]
            x += [*range(len(axes)), None]
            y += [*(_ABSENT if height is None else round(height, 4) for height in heights), None]
            texts += [about(record, trials[row])] * len(axes) + [""]
        if rows:
            traces.append(
                {
                    "type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "opacity": opacity,
                    "hovertext": texts, "hoverinfo": "text", "line": {"color": colour, "width": width},
                }
            )  # fmt: skip
    return traces


def _texts(axes: Sequence[_Axis], has_absent: bool) -> list[dict[str, Any]]:
    texts: list[dict[str, Any]] = []
    for x, axis in enumerate(axes):
        texts.append(
            {"x": x, "y": 1, "yref": "paper", "yanchor": "bottom", "text": f"<b>{axis.title}</b>", "showarrow": False}
        )
        texts += [
            {"x": x, "y": y, "xanchor": "right", "xshift": -5, "text": text, "showarrow": False, "font": {"size": 10}}
            for y, text in axis.ticks
        ]
        if has_absent and None in axis.heights:
            absent = {"xanchor": "right", "xshift": -5, "text": "absent", "showarrow": False, "font": {"size": 10}}
            texts.append({"x": x, "y": _ABSENT} | absent)
    return texts
