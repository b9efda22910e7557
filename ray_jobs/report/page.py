"""The shell of every report: one HTML file that needs no network and runs no script but its own.

Whatever a report shows comes from data, so every text is escaped here, and the browser is told by a Content-Security-
Policy to run scripts by their digests only and to load nothing. Styles cannot be told by digests: Plotly makes them
while it draws.
"""

import base64
import hashlib
import html
import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from ray_jobs.report.wording import clipped, number
from resnet_dist.errors import ReportError

_LONG = 90
"""Characters from which on a cell folds."""

Cell = str | float | None
"""A text, a number, or nothing."""


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Fact:
    """One number that matters, with what it is and a remark."""

    name: str
    value: str
    remark: str = ""


@dataclass(frozen=True)
class Facts:
    """Numbers that matter, side by side."""

    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Table:
    """Rows under named columns; a reader can sort by each."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    is_sortable: bool = True


@dataclass(frozen=True)
class Figure:
    """A Plotly figure. Texts in `data` and `layout` have been through `figure_text`."""

    title: str
    data: tuple[dict[str, Any], ...]
    layout: dict[str, Any]
    caption: str = ""
    height: int = 420
    """CSS pixels."""
    min_width: int = 0
    """CSS pixels; on a narrower page it scrolls sideways."""


@dataclass(frozen=True)
class FigureGrid:
    """Small figures side by side, as many in a row as fit."""

    figures: tuple[Figure, ...]
    marks: tuple[tuple[str, str, str], ...] = ()
    """A legend for all: a sign, its CSS colour and what it stands for."""


Part = Prose | Facts | Table | Figure | FigureGrid


@dataclass(frozen=True)
class Section:
    """A heading and what is below it."""

    title: str
    parts: tuple[Part, ...]


def render_page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """A complete HTML document, UTF-8. Raises ReportError when Plotly is not installed."""
    style, own_script, plotly = _asset("page.css"), _asset("page.js"), _plotly_script()
    policy = (
        f"default-src 'none'; script-src {_digest(own_script)} {_digest(plotly)}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    links = "".join(
        f'<li><a href="#section-{index}">{_text(section.title)}</a></li>' for index, section in enumerate(sections)
    )
    body = "\n".join(_section(index, section) for index, section in enumerate(sections))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{_text(title)}</title>
<style>{style}</style>
<script>{own_script}</script>
</head>
<body>
<header><h1>{_text(title)}</h1><p>{_text(subtitle)}</p></header>
<noscript><p class="notice">Figures and sorting need JavaScript; the numbers are in the tables.</p></noscript>
<nav aria-label="Sections"><ul>{links}</ul></nav>
<main>
{body}
</main>
<script>{plotly}</script>
</body>
</html>
"""


def _section(index: int, section: Section) -> str:
    parts = "\n".join(_part(part) for part in section.parts)
    return f'<section id="section-{index}"><h2>{_text(section.title)}</h2>\n{parts}\n</section>'


def _part(part: Part) -> str:
    match part:
        case Prose():
            return f"<p>{_text(part.text)}</p>"
        case Facts():
            return f'<dl class="facts">{"".join(_fact(fact) for fact in part.facts)}</dl>'
        case Table():
            return _table(part)
        case Figure():
            return _figure(part)
        case FigureGrid():
            marks = "".join(
                f'<li><span aria-hidden="true" style="color:{_text(colour)}">{_text(sign)}</span> {_text(name)}</li>'
                for sign, colour, name in part.marks
            )
            legend = f'<ul class="marks">{marks}</ul>' if marks else ""
            return f'{legend}<div class="grid">{"".join(_figure(figure) for figure in part.figures)}</div>'


def _fact(fact: Fact) -> str:
    remark = f'<dd class="remark">{_text(fact.remark)}</dd>' if fact.remark else ""
    return f"<div><dt>{_text(fact.name)}</dt><dd>{_text(fact.value)}</dd>{remark}</div>"


def _figure(figure: Figure) -> str:
    caption = f'<p class="caption">{_text(figure.caption)}</p>' if figure.caption else ""
    # JSON in a script ends at the first "</script" and hides behind "<!--": no "<" is left in it.
    spec = json.dumps({"data": figure.data, "layout": figure.layout}, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        spec = spec.replace(character, f"\\u{ord(character):04x}")
    return (
        f"<figure><figcaption><h3>{_text(figure.title)}</h3>{caption}</figcaption>"
        f'<div class="sideways"><div class="plot" role="img" aria-label="{_text(figure.title)}" '
        f'style="height:{figure.height}px;min-width:{figure.min_width}px">'
        f'<script type="application/json">{spec}</script></div></div></figure>'
    )


def _table(table: Table) -> str:
    numeric = [
        {type(row[column]) for row in table.rows} - {type(None)} in ({int}, {float}, {int, float})
        for column in range(len(table.columns))
    ]
    heads = "".join(
        f'<th scope="col"{" class=number" if is_number else ""}>'
        f"{f'<button type=button>{_text(name)}</button>' if table.is_sortable else _text(name)}</th>"
        for name, is_number in zip(table.columns, numeric, strict=True)
    )
    rows = "\n".join(
        f"<tr>{''.join(_cell(cell, is_number) for cell, is_number in zip(row, numeric, strict=True))}</tr>"
        for row in table.rows
    )
    kind = " class=sortable" if table.is_sortable else ""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{_text(table.caption)}"><table{kind}>'
        f"<caption>{_text(table.caption)}</caption><thead><tr>{heads}</tr></thead>\n<tbody>{rows}</tbody></table></div>"
    )


def _cell(cell: Cell, is_number: bool) -> str:
    start = "<td class=number>" if is_number else "<td>"
    if not isinstance(cell, str):
        return f"{start}{number(cell)}</td>"
    if len(cell) > _LONG:
        return f"<td><details><summary>{_text(clipped(cell, _LONG))}</summary><pre>{_text(cell)}</pre></details></td>"
    return f"<td>{_text(cell)}</td>"


def _text(text: str) -> str:
    return html.escape(text)


def _asset(name: str) -> str:
    return (files("ray_jobs.report") / name).read_text(encoding="utf-8")


def _plotly_script() -> str:
    try:
        # Untyped, an extra, and slow to import.
        offline: Any = importlib.import_module("plotly.offline")
    except ModuleNotFoundError as error:
        if error.name != "plotly":
            raise
        raise ReportError(
            "plotly is not installed, and reports draw with it: pip install 'resnet-dist[report]'"
        ) from error
    script: str = offline.get_plotlyjs()
    # A browser reads every line end as "\n" before it takes the digest.
    return script.replace("\r\n", "\n").replace("\r", "\n").replace("</script", "<\\/script")


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
