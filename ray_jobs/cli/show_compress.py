"""What `compress` prints: tables, or JSON."""

import json
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from ray_jobs.cli.next_command import run_words
from ray_jobs.terminal.console import console, show_line, table_of
from ray_jobs.terminal.counted import counted

if TYPE_CHECKING:
    # They know torch.
    from ray_jobs.compression.ladder import Ladder, Loss
    from ray_jobs.compression.outcome import ChainOutcome, PhaseOutcome
    from ray_jobs.compression.plan import PlanOutcome


def show_phase(outcome: "PhaseOutcome") -> None:
    """A phase that is done."""
    training = outcome.training
    if training is None:
        show_line(f"nothing need be trained, an export takes ranges from such images: {outcome.loss}")
        show_line(f"next: {run_words('export', outcome.run)}")
        return
    done = "was finished before, nothing to do" if training.already_finished else "finished"
    show_line(f"{outcome.run} {done}: {outcome.phase} of {outcome.parent}, {counted(training.epochs, 'epoch')}")
    if training.best is not None:
        show_line(f"best: {training.best}")
    for name, milliseconds in outcome.measured.items():
        show_line(f"{name}: {milliseconds:.3f} ms for one image")
    for loss in outcome.calibrated.values():
        show_line(f"ranges alone: {loss}")
    if outcome.loss:
        show_line(outcome.loss)
    show_line(f"next: {run_words('compress show', outcome.run)}")


def show_chain(outcome: "ChainOutcome") -> None:
    """All phases of a chain."""
    for each in outcome.tries:
        show_line(f"{each.share:.3g}: {each.loss}{'' if each.is_small_enough else ' (not taken)'}")
    for phase in outcome.phases:
        show_phase(phase)


def show_plan(found: "PlanOutcome") -> None:
    """What a target comes to, in a table: the network as it is, and as it would be."""
    table = table_of("", "now", "planned", "share")
    for name, before, after in found.rows:
        share = f"{after / before:.3f}" if before else ""
        table.add_row(name, _number(before), _number(after), share)
    console().print(table)
    show_line(f"widths: {found.plan.after.layer_widths.text}")
    show_line(found.range)
    show_line(f"next: {run_words('compress prune', found.run, *found.request.words)}")


def show_ladder(ladder: "Ladder") -> None:
    """A row for each run, the oldest first, then how fast each is in each runtime."""
    show_line(f"{ladder.images} images of {ladder.split}; losses are against the first run, with 95 % intervals")
    sizes = table_of("run", "phase", "parameters", "MACs", "training", whole_names=True)
    top1 = table_of("run", "top-1", "lost", "agrees", whole_names=True)
    classes = table_of("run", "macro-F1", "lost", "worst class", "recall", whole_names=True)
    for rung in ladder.rungs:
        name = escape(rung.run)
        seconds = "" if rung.training_s is None else f"{rung.training_s:.0f} s"
        sizes.add_row(name, rung.phase, _number(rung.parameters), _number(rung.macs), seconds)
        top1.add_row(name, f"{100 * rung.top1:.2f}", _loss(rung.top1_loss), f"{100 * rung.agreement:.1f} %")
        worst = escape(rung.worst_class), f"{100 * rung.worst_recall:.1f} %"
        classes.add_row(name, f"{100 * rung.macro_f1:.2f}", _loss(rung.macro_f1_loss), *worst)
    for table in (sizes, top1, classes):
        console().print(table)
    errors = ", ".join(f"{rung.run} {rung.calibration_error:.4f}" for rung in ladder.rungs)
    show_line(f"expected calibration error: {errors}")
    _show_speeds(ladder)


def _show_speeds(ladder: "Ladder") -> None:
    formats = list(dict.fromkeys(name for rung in ladder.rungs for name in rung.speeds))
    if formats:
        table = table_of("run", "format", "MB", "p50 ms", "p99 ms", "times as fast", whole_names=True)
        for rung in ladder.rungs:
            for name in formats:
                speed = rung.speeds.get(name)
                if speed is not None:
                    ratio = "" if speed.ratio is None else f"{speed.ratio:.2f}"
                    numbers = f"{speed.megabytes:.2f}", f"{speed.p50_ms:.3f}", f"{speed.p99_ms:.3f}"
                    table.add_row(escape(rung.run), name, *numbers, ratio)
        console().print(table)
        show_line(f"one image at a time on {counted(ladder.threads, 'thread')}, all in turns")
    for name, reason in ladder.skipped.items():
        show_line(f"{name} is not measured: {reason}")


def as_json(value: dict[str, Any]) -> str:
    """For programs."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def _loss(loss: "Loss | None") -> str:
    return "" if loss is None else f"{100 * loss.value:+.2f} ({100 * loss.low:+.2f} .. {100 * loss.high:+.2f})"


def _number(value: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value:.3g}"
