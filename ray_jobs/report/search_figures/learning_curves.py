"""How each trial's metrics went, epoch by epoch."""

import math
from collections.abc import Sequence
from typing import Any

from ray_jobs.report.page import Figure, FigureGrid
from ray_jobs.report.search_figures.framing import framed, outside
from ray_jobs.report.search_figures.states import BEST_COLOUR, DEFAULT_COLOUR, MARKS, legend
from ray_jobs.report.search_record import SearchRecord, Trial
from ray_jobs.report.wording import clipped, figure_text, number

_MOST_TRIALS = 120
_MOST_METRICS = 4
_MOST_POINTS = 200
"""Epochs of one curve."""
_FIRST = ("val/loss", "train/loss", "val/top1")

Curve = list[tuple[float, float]]


def learning_curves(record: SearchRecord) -> FigureGrid | None:
    """The objectives' curves first; None where no trial has one."""
    trials = record.shown(_MOST_TRIALS)
    metrics = {metric for trial in trials for row in trial.history for metric in row} - {"epoch"}
    wanted = dict.fromkeys([*(objective.metric for objective in record.objectives), *_FIRST, *sorted(metrics)])
    figures = [_figure(record, trials, metric) for metric in wanted if metric in metrics]
    drawn = tuple(figure for figure in figures if figure.data)[:_MOST_METRICS]
    return FigureGrid(drawn, legend(record, "━", "━")) if drawn else None


def _figure(record: SearchRecord, trials: Sequence[Trial], metric: str) -> Figure:
    curves = [(trial, _curve(trial, metric)) for trial in trials]
    known = [(trial, curve) for trial, curve in curves if curve]
    frame, beyond = framed(value for _, curve in known for _, value in curve)
    values = [row.get(metric) for trial in trials for row in trial.history]
    not_finite = sum(value is not None and not math.isfinite(value) for value in values)
    data: list[dict[str, Any]] = []
    for state, mark in MARKS.items():
        of_state = [each for each in known if each[0].state == state]
        data += _traces(of_state, {"color": mark.colour, "width": 1.2, "dash": mark.dash}, mark.symbol, 0.6)
    default = [each for each in known if each[0].is_default]
    best = [each for each in known if each[0].number == record.best]
    data += _traces(default, {"color": DEFAULT_COLOUR, "width": 3}, "square-open", 1)
    data += _traces(best, {"color": BEST_COLOUR, "width": 3.5}, "star", 1)
    left_out = len(record.trials) - len(trials)
    note = f" {len(trials)} of {len(record.trials)} trials, the best among them." if left_out else ""
    return Figure(
        title=clipped(metric, 60),
        caption=f"A mark where a trial ended.{outside(beyond, not_finite)}{note}",
        data=tuple(data),
        layout={
            "xaxis": {"title": {"text": "epoch"}, "zeroline": False, "rangemode": "tozero"},
            "yaxis": {"title": {"text": figure_text(metric, 30)}, "zeroline": False} | frame,
            "margin": {"t": 10, "r": 15, "b": 45, "l": 55},
            "hovermode": "closest",
            "showlegend": False,
        },
        height=320,
    )


def _curve(trial: Trial, metric: str) -> Curve:
    """Finite points by epoch, thinned evenly, the last one kept."""
    points: Curve = []
    for index, row in enumerate(trial.history):
        epoch, value = row.get("epoch", index + 1), row.get(metric)
        if epoch is not None and value is not None and math.isfinite(epoch) and math.isfinite(value):
            points.append((epoch, value))
    step = -(-len(points) // _MOST_POINTS) or 1
    return [*points[:-1:step], *points[-1:]]


def _traces(
    curves: Sequence[tuple[Trial, Curve]], line: dict[str, Any], symbol: str, opacity: float
) -> list[dict[str, Any]]:
    """One trace for many curves, apart by gaps, with a mark at each end."""
    x: list[float | None] = []
    y: list[float | None] = []
    sizes: list[int] = []
    texts: list[str] = []
    for trial, curve in curves:
        x += [*(epoch for epoch, _ in curve), None]
        y += [*(value for _, value in curve), None]
        sizes += [*[0] * (len(curve) - 1), 7, 0]
        texts += [*(f"trial {trial.number}, epoch {number(epoch)}: {number(value)}" for epoch, value in curve), ""]
    if not x:
        return []
    marker = {"symbol": symbol, "size": sizes, "color": line["color"], "opacity": 1, "line": {"width": 0}}
    trace = {"type": "scatter", "mode": "lines+markers", "x": x, "y": y, "line": line, "opacity": opacity}
    return [trace | {"marker": marker, "hovertext": texts, "hoverinfo": "text"}]
