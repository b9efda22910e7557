"""Trials in the order they were made, by what they came to, with the best so far."""

from typing import Any

from ray_jobs.report.page import Figure
from ray_jobs.report.search_figures.framing import framed, outside
from ray_jobs.report.search_figures.states import NEUTRAL, state_traces
from ray_jobs.report.search_record import SearchRecord, Trial
from ray_jobs.report.wording import clipped, figure_text
from ray_jobs.terminal.counted import counted

_MOST = 2000


def objective_history(record: SearchRecord, objective: int) -> Figure:
    """Trial number against one objective; trials without a value stand in a strip below."""
    sought = record.objectives[objective]
    trials = record.shown(_MOST, objective)
    valueless = [trial for trial in trials if trial.value(objective) is None]
    frame, beyond = framed(value for trial in trials if (value := trial.value(objective)) is not None)
    marks = state_traces(record, trials, lambda trial: trial.number, lambda trial: trial.value(objective))
    known = {trace["name"] for trace in marks}
    strip = [
        trace | {"yaxis": "y2", "showlegend": trace["name"] not in known}
        for trace in state_traces(record, valueless, lambda trial: trial.number, lambda _: 0)
    ]
    bottom = (0.16 if strip else 0.0) if marks else 1.0
    layout: dict[str, Any] = {
        "xaxis": {
            "title": {"text": "trial"},
            "range": _numbers(trials),
            "zeroline": False,
            "anchor": "y2" if strip else "y",
        },
        "yaxis": {"title": {"text": figure_text(sought.metric, 40)}, "domain": [bottom, 1], "visible": bool(marks)}
        | frame,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "margin": {"t": 50, "r": 20, "b": 50, "l": 60},
        "hovermode": "closest",
    }
    if strip:
        layout["yaxis2"] = {
            "domain": [0, 0.08 if marks else 1], "range": [-1, 1], "tickvals": [0], "ticktext": ["no value"],
            "showgrid": False, "zeroline": False, "fixedrange": True,
        }  # fmt: skip
    best = _best_so_far(record, trials, objective)
    line = "The line is the best of the finished trials so far." if best else "No trial has finished with a value."
    return Figure(
        title=f"{clipped(sought.metric, 60)} by trial ({sought.wish})",
        caption=f"{line}{outside(beyond)}{_left_out(record, trials)}",
        data=(*best, *marks, *strip),
        layout=layout,
        height=420 if marks else 200,
    )


def _best_so_far(record: SearchRecord, trials: tuple[Trial, ...], objective: int) -> list[dict[str, Any]]:
    x: list[int] = []
    y: list[float] = []
    for trial in trials:
        value = trial.value(objective)
        if trial.state == "finished" and value is not None:
            is_better = not y or record.objectives[objective].cost(value) < record.objectives[objective].cost(y[-1])
            x.append(trial.number)
            y.append(value if is_better else y[-1])
    if not x:
        return []
    if trials[-1].number > x[-1]:
        x.append(trials[-1].number)
        y.append(y[-1])
    line = {"color": NEUTRAL, "width": 2, "shape": "hv"}
    return [
        {"type": "scatter", "mode": "lines", "name": "best so far", "x": x, "y": y, "line": line, "hoverinfo": "skip"}
    ]


def _numbers(trials: tuple[Trial, ...]) -> list[float]:
    """The first to the last number, with room for the marks at both ends."""
    first, last = (trials[0].number, trials[-1].number) if trials else (0, 0)
    margin = max((last - first) * 0.02, 0.5)
    return [first - margin, last + margin]


def _left_out(record: SearchRecord, trials: tuple[Trial, ...]) -> str:
    missing = len(record.trials) - len(trials)
    return f" {counted(missing, 'trial')} left out evenly." if missing else ""
