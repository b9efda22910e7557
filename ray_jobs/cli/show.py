"""What a finished command prints: tables on a terminal, the same in plain text elsewhere."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from cluster.health.preflight import Check, NodeCheck
from ray_jobs.cli.next_command import run_words
from ray_jobs.run.outcome import TrainOutcome
from ray_jobs.terminal.console import console, show_line, table_of
from ray_jobs.terminal.counted import counted

if TYPE_CHECKING:
    # At run time they would bring torch to `doctor`.
    from ray_jobs.evaluation.evaluate import EvaluationOutcome
    from ray_jobs.training.cross_validation import FoldsOutcome
    from resnet_dist.evaluation.without_leaks import WithoutLeaks

_MAX_CLASSES = 20
_MAX_CONFUSIONS = 5
_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


def show_training(outcome: TrainOutcome) -> None:
    """A run that is done."""
    done = "was finished before, nothing to do" if outcome.already_finished else "finished"
    show_line(f"{outcome.run} {done}: {counted(outcome.epochs, 'epoch')}, {counted(outcome.steps, 'step')}")
    if outcome.ended_early:
        show_line(outcome.ended_early)
    if outcome.best is not None:
        show_line(f"best: {outcome.best}")
    table = table_of("best epoch", "value")
    for name, value in outcome.metrics.items():
        table.add_row(name, f"{value:.4f}")
    if outcome.images_per_second is not None:
        table.add_row("images per second", f"{outcome.images_per_second:.0f}")
    console().print(table)
    split = "test" if outcome.splits.get("test") else "val"
    show_line(f"next: {run_words('evaluate', outcome.run, '--split', split)}")


def show_folds(outcome: "FoldsOutcome") -> None:
    """Cross-validation that is done."""
    show_line(f"{outcome.uri}/folds.json: {len(outcome.runs)} folds")
    table = table_of("best epochs", "mean", "95 % interval", "least", "most")
    for name, each in outcome.metrics.items():
        interval = f"{each.low:.4f} .. {each.high:.4f}"
        table.add_row(name, f"{each.mean:.4f}", interval, f"{min(each.values):.4f}", f"{max(each.values):.4f}")
    console().print(table)


def show_evaluation(outcome: "EvaluationOutcome") -> None:
    """A judged split: metrics with their intervals, classes (the worst where they are many), commonest confusions."""
    result = outcome.result
    show_line(f"{outcome.run} {outcome.checkpoint} on {outcome.split}: {result.samples} images")
    for note in outcome.notes:
        show_line(note)
    metrics = table_of("metric", "value", "95 % interval")
    for name, value in result.metrics.items():
        low, high = result.intervals.get(name, (None, None))
        metrics.add_row(name, f"{value:.4f}", "" if low is None else f"{low:.4f} .. {high:.4f}")
    console().print(metrics)

    worst = sorted(result.classes, key=lambda each: each.f1)[:_MAX_CLASSES]
    many = len(result.classes) > _MAX_CLASSES
    shown = worst if many else result.classes
    remark = ["remark"] if any(each.remark for each in shown) else []
    head = f"class ({_MAX_CLASSES} worst)" if many else "class"
    classes = table_of(head, "precision", "recall", "F1", "images", *remark)
    for each in shown:
        numbers = f"{each.precision:.4f}", f"{each.recall:.4f}", f"{each.f1:.4f}", f"{each.support}"
        classes.add_row(escape(each.name), *numbers, *([each.remark] if remark else []))
    console().print(classes)

    confused = sorted(
        (-count, result.classes[row].name, result.classes[column].name)
        for row, counts in enumerate(result.confusion)
        for column, count in enumerate(counts)
        if row != column and count
    )
    for count, truth, answer in confused[:_MAX_CONFUSIONS]:
        show_line(f"{-count} of {truth} taken for {answer}")
    if outcome.without_leaks is not None:
        show_leaks(outcome.without_leaks, result.samples)
    show_line(f"predictions: {outcome.predictions}")
    show_line(f"next: {run_words('export', outcome.run)}")


def show_leaks(found: "WithoutLeaks", samples: int) -> None:
    """What a result is without the images that training had seen copies of."""
    if not found.kept:
        show_line(f"warning: all {samples} images have copies in what was trained on: this says nothing of new ones")
        return
    show_line(f"{found.leaked} of {samples} images have copies in what was trained on; without them:")
    table = table_of("metric", "without", "with them better by", "95 % interval")
    for name, value in found.metrics.items():
        gain, low, high = found.gains[name]
        table.add_row(name, f"{value:.4f}", f"{gain:+.4f}", f"{low:+.4f} .. {high:+.4f}")
    console().print(table)


def show_demo(outcome: TrainOutcome, evaluation: "EvaluationOutcome", seconds: float) -> None:
    """What `make demo` ends with."""
    result = evaluation.result
    table = table_of(f"{evaluation.split}, {result.samples} images", "value", "95 % interval")
    for name in ("top1", "macro_f1"):
        low, high = result.intervals[name]
        table.add_row(name, f"{result.metrics[name]:.4f}", f"{low:.4f} .. {high:.4f}")
    if outcome.images_per_second is not None:
        table.add_row("images per second", f"{outcome.images_per_second:.0f}", "")
    table.add_row("seconds in all", f"{seconds:.0f}", "")
    console().print(table)
    show_line(f"run: {outcome.run}")
    show_line(f"next: resnet-dist evaluate {outcome.run} --split val")
    show_line("      resnet-dist train --help")


def show_checks(checks: list[Check]) -> None:
    """What `doctor` found, and below it what to do, in lines that can be copied."""
    table = table_of("check", "", "found")
    for check in checks:
        table.add_row(check.name, f"[{_STYLES[check.status]}]{check.status}[/]", escape(check.found))
    console().print(table)
    for check in checks:
        if check.remedy:
            show_line(f"{check.name}: {check.remedy}")


def show_node_checks(found: Sequence[NodeCheck]) -> None:
    """What `doctor` found on a cluster: a row for each answer and the nodes that gave it; then what to do."""
    names = list(dict.fromkeys(each.node for each in found if each.check.name in {"node", "answers"}))
    rows: dict[Check, list[str]] = {}
    kinds = list(dict.fromkeys(each.check.name for each in found))
    for kind in kinds:
        for each in found:
            if each.check.name == kind:
                rows.setdefault(each.check, []).append(each.node)
    table = table_of("check", "nodes", "", "found")
    for check, nodes in rows.items():
        which = f"all {len(names)}" if len(names) > 1 and set(nodes) >= set(names) else ", ".join(filter(None, nodes))
        table.add_row(check.name, escape(which), f"[{_STYLES[check.status]}]{check.status}[/]", escape(check.found))
    console().print(table)
    for check, nodes in rows.items():
        if check.remedy:
            show_line(f"{', '.join(filter(None, nodes)) or 'all'}: {check.name}: {check.remedy}")
    errors = list(dict.fromkeys(each.node for each in found if each.check.status == "error"))
    verdict = f"not fit: {', '.join(filter(None, errors)) or 'the nodes together'}" if errors else "fit for jobs"
    show_line(f"{counted(len(names), 'node')}: {verdict}")


def write_checks(path: Path, found: Iterable[tuple[str, Check]]) -> None:
    """Write the checks of `doctor` for programs, with the node where there are several."""
    items = [{"node": node, **asdict(check)} for node, check in found]
    path.write_text(json.dumps(items, indent=2) + "\n", encoding="utf-8")
