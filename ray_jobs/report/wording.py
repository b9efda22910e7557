"""Numbers and texts as a reader sees them, in HTML and in figures."""

import html
import math

NOTHING = "—"
"""Stands where there is no value."""


def clipped(text: str, most: int) -> str:
    """The text on one line, at most `most` characters of it."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def figure_text(text: str, most: int = 60) -> str:
    """A text for a figure, where Plotly reads tags (also links) and entities as HTML does."""
    return html.escape(clipped(text, most), quote=False)


def number(value: float | None) -> str:
    """Four significant digits, whole numbers whole; a dash for None."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return str(float(value))
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"


def setting(value: float | str | None) -> str:
    """The value of a searched field."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case _:
            return number(value)


def percent(share: float) -> str:
    """A share, 0..1 or beyond, in percent."""
    return f"{100 * share:.{0 if share >= 0.1 else 1}f} %" if math.isfinite(share) else NOTHING


def duration(seconds: float | None) -> str:
    """A time span in the two units that say most."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if not 60 <= seconds < 1e9:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
