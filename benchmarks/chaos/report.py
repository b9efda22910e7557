"""What became of the faults, as a table."""

import statistics
from collections.abc import Sequence

from benchmarks.chaos.strike import Struck


def table(struck: Sequence[Struck]) -> str:
    """Markdown, a line for each kind and one for all."""
    lines = ["| fault | struck | went on, weights equal | seconds: median, most | steps trained again: median, most |"]
    lines.append("|---|---|---|---|---|")
    kinds = list(dict.fromkeys(each.fault for each in struck))
    for kind in (*sorted(kinds), ""):
        those = [each for each in struck if each.fault == kind or not kind]
        seconds = [each.seconds for each in those if each.seconds is not None]
        repeated = [each.repeated for each in those if each.repeated is not None]
        well = sum(each.is_well for each in those)
        lines.append(f"| {kind or 'all'} | {len(those)} | {well} | {_spread(seconds)} | {_spread(repeated)} |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f}, {max(values):.1f}" if values else "-"
