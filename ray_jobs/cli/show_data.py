"""What `data inspect` and `data diff` print."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from ray_jobs.terminal.console import console, show_line, table_of
from ray_jobs.terminal.counted import counted

if TYPE_CHECKING:
    # Each command loads what it needs.
    from data_pipeline.inspection.difference import TestCopy
    from ray_jobs.inspection.diff import DiffOutcome
    from ray_jobs.inspection.inspect import InspectOutcome

_STYLES = {"error": "bold red", "warning": "yellow", "note": ""}
_EXAMPLES = 3
_SHOWN = 5


def printable(text: str) -> str:
    """The text without what a terminal would take for a command: file names may hold anything."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def show_inspection(outcome: "InspectOutcome") -> None:
    """A data set that was inspected."""
    record = outcome.record
    splits = ", ".join(f"{count} {name}" for name, count in record.splits.items())
    again = f", {record.images - outcome.decoded} of them known from before" if outcome.decoded < record.images else ""
    show_line(f"{record.root}: {counted(record.images, 'image')} of {len(record.classes)} classes ({splits}){again}")
    radius = record.radius
    chosen = "as given" if radius.given else f"from {radius.pairs:,} pairs that are known to differ"
    lowered = f", lowered from {radius.lowered_from}: too many lie that near" if radius.lowered_from is not None else ""
    show_line(
        f"copies differ in at most {radius.bits} of 256 bits ({chosen}{lowered}); "
        f"two images that differ are that near with a chance of {radius.false_match_rate:.1g}"
    )
    commands: dict[str, list[str]] = {}
    if not record.findings:
        show_line("nothing was found that a training should wait for")
    else:
        table = table_of("finding", "count", "found", whole_names=True)
        for finding in record.findings:
            style = _STYLES[finding.severity]
            name = f"[{style}]{finding.code}[/{style}]" if style else finding.code
            is_command = finding.remedy.startswith("resnet-dist ")
            if is_command:
                commands.setdefault(finding.remedy, []).append(finding.code)
            remedy = "-> the command below" if is_command else f"-> {escape(finding.remedy)}"
            table.add_row(name, f"{finding.count}", f"{escape(finding.sentence)}\n{remedy}")
        console().print(table)
    for finding in record.findings:
        for example in finding.examples[:_EXAMPLES] if finding.severity == "error" else ():
            show_line(f"{finding.code}: {printable(example)}")
    # On lines of their own, as a table breaks them.
    for command, codes in commands.items():
        show_line(f"for {', '.join(codes)}: {command}")
    if outcome.unranked is not None:
        show_line(f"labels were not checked; to check them: {outcome.unranked}")
    show_line(f"record: {outcome.place}")


def show_difference(outcome: "DiffOutcome") -> None:
    """Two data sets that were compared."""
    found, (before, after) = outcome.difference, outcome.images
    show_line(f"{outcome.first}: {counted(before, 'image')}; {outcome.second}: {counted(after, 'image')}")
    for note in outcome.notes:
        show_line(note)
    kinds: list[tuple[str, Sequence[str]]] = [
        ("added", found.added),
        ("removed", found.removed),
        ("renamed", [f"{old} -> {new}" for old, new in found.renamed]),
        ("replaced", found.replaced),
        ("relabelled", [f"{name}: {old} -> {new}" for name, old, new in found.relabelled]),
        ("moved", [f"{name}: {old} -> {new}" for name, old, new in found.moved]),
        (f"in {outcome.second}, copies of test images of {outcome.first}", _copies(found.copies_of_first_test)),
        (f"in {outcome.first}, copies of test images of {outcome.second}", _copies(found.copies_of_second_test)),
    ]
    for kind, lines in kinds:
        if lines:
            show_line(f"{len(lines)} {kind}")
            for line in lines[:_SHOWN]:
                show_line(f"  {printable(line)}")
            if len(lines) > _SHOWN:
                show_line(f"  and {len(lines) - _SHOWN} more")
    if not any(lines for _, lines in kinds):
        show_line("no difference")


def _copies(copies: "Sequence[TestCopy]") -> list[str]:
    return [f"{each.sample_id} ({each.split or 'no split'}) = {each.test_id}, {each.distance} bits" for each in copies]
