"""How much of the objective's variation each searched field explains."""

import math

from ray_jobs.report.page import Figure
from ray_jobs.report.search_figures.states import MARKS
from ray_jobs.report.search_record import SearchRecord
from ray_jobs.report.wording import clipped, figure_text, percent

_MOST = 30


def importance_bars(record: SearchRecord) -> Figure | None:
    """A bar for each field, the longest on top; None where nothing is known."""
    known = [(share, name) for name, share in (record.importance or {}).items() if math.isfinite(share)]
    if not known:
        return None
    bars = sorted(known)[-_MOST:]
    places = list(range(len(bars)))
    return Figure(
        title=f"What {clipped(record.objectives[0].metric, 60)} depends on",
        caption="Share of its variation over the trials that each field explains. An estimate, coarse with few "
        "trials; and it says nothing of values outside of the searched ranges.",
        data=(
            {
                "type": "bar", "orientation": "h", "x": [share for share, _ in bars], "y": places, "width": 0.65,
                "text": [percent(share) for share, _ in bars], "textposition": "outside", "cliponaxis": False,
                "hovertext": [f"{figure_text(name)}: {percent(share)}" for share, name in bars], "hoverinfo": "text",
                "marker": {"color": MARKS["finished"].colour},
            },
        ),
        layout={
            "xaxis": {"tickformat": ".0%", "rangemode": "tozero", "zeroline": False},
            "yaxis": {"tickvals": places, "ticktext": [figure_text(name, 44) for _, name in bars], "showgrid": False,
                      "range": [-0.6, len(bars) - 0.4]},
            "margin": {"t": 20, "r": 60, "b": 40, "l": 40},
            "showlegend": False,
        },
        height=90 + 32 * len(bars),
    )  # fmt: skip
