"""How a trial's state looks in every figure: by colour and by shape."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ray_jobs.report.search_record import SearchRecord, State, Trial
from ray_jobs.report.wording import figure_text, number

BEST_COLOUR = "#d99a00"
DEFAULT_COLOUR = "#8f6bff"
NEUTRAL = "#8a929c"
"""Seen on light and on dark paper."""


@dataclass(frozen=True)
class Mark:
    """A state's looks."""

    colour: str
    symbol: str
    """Plotly's name of the shape."""
    sign: str
    """The shape as a character."""
    dash: str
    """Plotly's name of the line's dashes."""


MARKS: dict[State, Mark] = {
    "finished": Mark("#3182ce", "circle", "●", "solid"),
    "stopped": Mark("#c98a1b", "triangle-down", "▼", "dot"),
    "diverged": Mark("#c2559d", "diamond", "◆", "dash"),
    "failed": Mark("#d5502d", "x", "✖", "dashdot"),
    "running": Mark("#5f9e6e", "square", "■", "longdash"),
}
Place = Callable[[Trial], float | None]


def legend(record: SearchRecord, best: str, default: str) -> tuple[tuple[str, str, str], ...]:
    """The states that there are, then the signs for the best and the default trial."""
    present = {trial.state for trial in record.trials}
    states = [(mark.sign, mark.colour, state) for state, mark in MARKS.items() if state in present]
    named = [(best, BEST_COLOUR, "best", record.best_trial), (default, DEFAULT_COLOUR, "default", record.default_trial)]
    return (*states, *((sign, colour, name) for sign, colour, name, trial in named if trial is not None))


def about(record: SearchRecord, trial: Trial) -> str:
    """The text that appears over a trial's mark."""
    names = [" (best)" if trial.number == record.best else "", " (default)" if trial.is_default else ""]
    values = [
        f"{figure_text(objective.metric)} {number(value)}"
        for objective, value in zip(record.objectives, trial.values, strict=True)
    ]
    return "<br>".join([f"trial {trial.number}{''.join(names)}: {trial.state}", *values])


def state_traces(
    record: SearchRecord, trials: Sequence[Trial], x: Place, y: Place, *, size: int = 8, has_legend: bool = True
) -> list[dict[str, Any]]:
    """Marks of the trials that have a place: a trace for each state, then rings for the best and the default."""
    placed = [(trial, x(trial), y(trial)) for trial in trials]
    found = [each for each in placed if each[1] is not None and each[2] is not None]
    traces = [
        _marks(record, state, [each for each in found if each[0].state == state], mark.colour, mark.symbol, size)
        for state, mark in MARKS.items()
    ]
    default = [each for each in found if each[0].is_default]
    best = [each for each in found if each[0].number == record.best]
    traces.append(_marks(record, "default", default, DEFAULT_COLOUR, "square-open", size + 7))
    traces.append(_marks(record, "best", best, BEST_COLOUR, "star", size + 6))
    return [trace | {"showlegend": has_legend} for trace in traces if trace["x"]]


def _marks(
    record: SearchRecord,
    name: str,
    placed: list[tuple[Trial, float | None, float | None]],
    colour: str,
    symbol: str,
    size: int,
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [x for _, x, _ in placed],
        "y": [y for _, _, y in placed],
        "hovertext": [about(record, trial) for trial, _, _ in placed],
        "hoverinfo": "text",
        "marker": {"color": colour, "symbol": symbol, "size": size, "line": {"width": 2 if "open" in symbol else 0}},
    }
