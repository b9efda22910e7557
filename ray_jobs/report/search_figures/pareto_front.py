"""Objectives against each other, and the trials that no other beats in all of them."""

from itertools import combinations

from ray_jobs.report.page import Figure
from ray_jobs.report.search_figures.framing import framed, outside
from ray_jobs.report.search_figures.states import NEUTRAL, about, state_traces
from ray_jobs.report.search_record import SearchRecord
from ray_jobs.report.wording import clipped, figure_text
from ray_jobs.terminal.counted import counted

_MOST_TRIALS = 1000
_MOST_PAIRS = 6


def pareto_fronts(record: SearchRecord) -> tuple[Figure, ...]:
    """A figure for each pair of objectives that a trial has values of; none where there is only one objective."""
    pairs = [
        pair
        for pair in combinations(range(len(record.objectives)), 2)
        if any(trial.value(pair[0]) is not None and trial.value(pair[1]) is not None for trial in record.trials)
    ]
    return tuple(_front(record, up, across) for up, across in pairs[:_MOST_PAIRS])


def _front(record: SearchRecord, up: int, across: int) -> Figure:
    """The first objective of a pair goes upwards."""
    trials = record.shown(_MOST_TRIALS, up)
    names = set(record.front)
    members = [
        (x, y, trial)
        for trial in record.trials
        if trial.number in names and (x := trial.value(across)) is not None and (y := trial.value(up)) is not None
    ]
    members.sort(key=lambda member: member[:2])
    drawn = members[:: -(-len(members) // _MOST_TRIALS) or 1]
    x_frame, x_beyond = framed(value for trial in trials if (value := trial.value(across)) is not None)
    y_frame, y_beyond = framed(value for trial in trials if (value := trial.value(up)) is not None)
    x_sought, y_sought = record.objectives[across], record.objectives[up]
    how = (
        f" Latency: {record.latency.how}."
        if record.latency and any("latency_" in each.metric for each in (x_sought, y_sought))
        else ""
    )
    front = {
        "type": "scatter", "name": "Pareto front",
        # With a third objective the front is no line here.
        "mode": "lines+markers" if len(record.objectives) == 2 else "markers",
        "x": [x for x, _, _ in drawn], "y": [y for _, y, _ in drawn],
        "hovertext": [about(record, trial) for _, _, trial in drawn], "hoverinfo": "text",
        "line": {"color": NEUTRAL, "width": 1.5, "dash": "dot"},
        "marker": {"symbol": "circle-open", "size": 15, "color": NEUTRAL, "line": {"width": 2}},
    }  # fmt: skip
    return Figure(
        title=f"{clipped(y_sought.metric, 50)} ({y_sought.wish}) and {clipped(x_sought.metric, 50)} ({x_sought.wish})",
        caption=f"Ringed: {counted(len(members), 'trial')} that no other beats in all objectives."
        f"{how}{outside(x_beyond + y_beyond)}",
        data=(front, *state_traces(record, trials, lambda trial: trial.value(across), lambda trial: trial.value(up))),
        layout={
            "xaxis": {"title": {"text": figure_text(x_sought.metric, 40)}, "zeroline": False} | x_frame,
            "yaxis": {"title": {"text": figure_text(y_sought.metric, 40)}, "zeroline": False} | y_frame,
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "margin": {"t": 50, "r": 20, "b": 50, "l": 60},
            "hovermode": "closest",
        },
        height=460,
    )
