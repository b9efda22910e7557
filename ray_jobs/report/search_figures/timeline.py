"""Which slot of the pool trained which trial, and when."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray_jobs.report.page import Figure
from ray_jobs.report.search_figures.states import MARKS, NEUTRAL
from ray_jobs.report.search_record import SearchRecord, Trial
from ray_jobs.report.wording import duration
from ray_jobs.terminal.counted import counted

_MOST = 2000
_UNITS = ((7200.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
"""From so many seconds on, seconds in one unit, its name."""

_PATTERNS = {"stopped": "/", "diverged": "x", "failed": "\\", "running": "."}


@dataclass(frozen=True)
class _Spell:
    """A time span of a trial, in seconds, on a row."""

    trial: Trial
    row: int
    start: float
    end: float


def timeline(record: SearchRecord) -> Figure | None:
    """A row for each slot: training above, waiting for a slot thin below; None where no time is known."""
    begun = sorted(
        (trial for trial in record.trials if trial.started_s is not None and math.isfinite(trial.started_s)),
        key=lambda trial: trial.started_s or 0.0,
    )
    if not begun:
        return None
    shown = begun[:_MOST]
    slots = sorted({trial.slot for trial in shown if trial.slot is not None})
    rows = {slot: row for row, slot in enumerate(slots)}
    unknown = len(slots)
    names = [f"slot {slot}" for slot in slots]
    if any(trial.slot is None for trial in shown):
        names.append("no slot")
    now = max((moment for trial in record.trials for moment in _moments(trial)), default=0.0)
    training: list[_Spell] = []
    waiting: list[_Spell] = []
    for trial in shown:
        row = unknown if trial.slot is None else rows[trial.slot]
        queued, start, end = trial.queued_s, trial.started_s or 0.0, trial.ended_s
        end = now if end is None or not math.isfinite(end) else end
        training.append(_Spell(trial, row, start, max(end, start)))
        if queued is not None and math.isfinite(queued) and queued < start:
            waiting.append(_Spell(trial, row, queued, start))
    _, unit, unit_name = next(each for each in _UNITS if now >= each[0] or each[0] == 0)
    missing = len(record.trials) - len(shown)
    left_out = (
        f" {counted(missing, 'trial')} without a known time, or beyond the first {_MOST}, are left out."
        if missing
        else ""
    )
    bars = [
        _bars(state, [each for each in training if each.trial.state == state], mark.colour, unit)
        for state, mark in MARKS.items()
    ]
    return Figure(
        title="The pool over time",
        caption=f"Bars are trials in training, the thin lines below them trials that wait for that slot.{left_out}",
        data=tuple(bar for bar in [*bars, _waits(waiting, unit)] if bar["x"]),
        layout={
            "barmode": "overlay",
            "xaxis": {"title": {"text": f"{unit_name} since the search began"}, "rangemode": "tozero",
                      "zeroline": False},
            "yaxis": {"tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.4, -0.5],
                      "showgrid": False, "zeroline": False, "fixedrange": True},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "margin": {"t": 50, "r": 20, "b": 50, "l": 60},
            "hovermode": "closest",
            "uniformtext": {"minsize": 9, "mode": "hide"},
        },
        height=min(160 + 44 * len(names), 1200),
    )  # fmt: skip


def _moments(trial: Trial) -> list[float]:
    return [moment for moment in (trial.started_s, trial.ended_s) if moment is not None and math.isfinite(moment)]


def _bars(name: str, spells: Sequence[_Spell], colour: str, unit: float) -> dict[str, Any]:
    pattern = {"shape": _PATTERNS.get(name, ""), "fillmode": "overlay", "fgcolor": "#ffffff", "fgopacity": 0.45}
    return {
        "type": "bar", "orientation": "h", "name": name, "offset": -0.35, "width": 0.55,
        "base": [each.start / unit for each in spells], "x": [(each.end - each.start) / unit for each in spells],
        "y": [each.row for each in spells],
        "text": [str(each.trial.number) for each in spells], "textposition": "inside", "insidetextanchor": "middle",
        "textfont": {"color": "#ffffff"}, "textangle": 0,
        "hovertext": [
            f"trial {each.trial.number}: {each.trial.state}, {duration(each.end - each.start)}" for each in spells
        ],
        "hoverinfo": "text",
        "marker": {"color": colour, "line": {"width": 0}, "pattern": pattern},
    }  # fmt: skip


def _waits(spells: Sequence[_Spell], unit: float) -> dict[str, Any]:
    return {
        "type": "bar", "orientation": "h", "name": "waiting", "offset": 0.26, "width": 0.1, "opacity": 0.6,
        "base": [each.start / unit for each in spells], "x": [(each.end - each.start) / unit for each in spells],
        "y": [each.row for each in spells],
        "hovertext": [f"trial {each.trial.number} waited {duration(each.end - each.start)}" for each in spells],
        "hoverinfo": "text", "marker": {"color": NEUTRAL, "line": {"width": 0}},
    }  # fmt: skip
