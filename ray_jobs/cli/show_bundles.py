"""What `export`, `promote` and `pull` print."""

from typing import TYPE_CHECKING

from rich.markup import escape

from ray_jobs.bundles.promote import Promotion
from ray_jobs.bundles.pull import PullOutcome
from ray_jobs.bundles.registry import SHORT
from ray_jobs.errors import GateError
from ray_jobs.terminal.console import console, show_line, table_of

if TYPE_CHECKING:
    # At run time the first would bring torch to `pull`.
    from ray_jobs.bundles.export import ExportOutcome
    from resnet_dist.evaluation.judged_answers import JudgedAnswers

_MAX_CLASSES = 20


def show_export(outcome: "ExportOutcome") -> None:
    """A bundle: differences of its formats, and what the operating point comes to. Raises GateError for a refusal."""
    for note in outcome.notes:
        show_line(note)
    table = table_of("format", "verdict", "top-1 lost", "agrees", "logits", "MB", "ms", whole_names=True)
    for name, each in outcome.parities.items():
        table.add_row(
            name,
            each.verdict,
            f"{100 * each.top1_difference:+.2f}",
            f"{100 * each.agreement:.2f} %",
            f"{each.relative_logit_difference:.0e}",
            f"{each.megabytes:.1f}",
            f"{each.milliseconds:.1f}",
        )
    console().print(table)
    for name, reason in outcome.skipped.items():
        show_line(f"{name} is left out: {reason}")
    point = outcome.operating_point
    show_line(f"temperature {point['temperature']:.3f}, reject below {point['reject_below']}")
    for name, threshold in point["thresholds"].items():
        show_line(f"{name} is answered from {threshold:.4f} on")
    for split, judged in outcome.evaluation.items():
        _show_judged(split, judged, set(point["thresholds"]))
    if outcome.refused:
        raise GateError(
            "\n".join(f"{name} is not published: {reason}" for name, reason in outcome.refused.items())
            + f"\nthe others are in {outcome.uri}; parity.json there has all numbers"
        )
    show_line(f"{outcome.uri} from {outcome.checkpoint}")
    show_line(f"next: resnet-dist predict {outcome.uri} IMAGE...")


def _show_judged(split: str, judged: "JudgedAnswers", watched: set[str]) -> None:
    """Counts of all images of a split; where classes are many, those with a threshold and the worst."""
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in judged.metrics.items())
    show_line(
        f"{split}: {judged.samples} images, {judged.right} right, {judged.wrong} wrong, {judged.rejected} rejected; "
        f"{metrics}"
    )
    by_need = sorted(judged.classes, key=lambda name: (name not in watched, judged.classes[name].recall))
    is_many = len(by_need) > _MAX_CLASSES
    shown = set(by_need[: max(_MAX_CLASSES, len(watched))])
    head = f"class ({len(shown)} of {len(by_need)})" if is_many else "class"
    listed = {name: of for name, of in judged.classes.items() if name in shown}
    has_asked = any(of.asked_recall is not None for of in listed.values())
    has_remark = any(of.remark for of in listed.values())
    more = [*(["asked"] if has_asked else []), *(["remark"] if has_remark else [])]
    table = table_of(head, "images", "found", "missed", "rejected", "false alarms", "recall", *more)
    for name, of in listed.items():
        asked = [("" if of.asked_recall is None else f"{of.asked_recall:g}")] if has_asked else []
        remark = [of.remark] if has_remark else []
        counts = (of.images, of.found, of.missed, of.rejected, of.false_alarms)
        table.add_row(escape(name), *map(str, counts), f"{of.recall:.4f}", *asked, *remark)
    console().print(table)


def show_promotion(promotion: Promotion) -> None:
    """What is in production now, and how to fetch it or to go back."""
    digest = promotion.digest[:SHORT]
    what = "is in production" if promotion.changed else "was in production already"
    show_line(f"{promotion.uri} {what}: {', '.join(promotion.formats)}")
    for name, reason in promotion.refused.items():
        show_line(f"{name} is not in it: {reason}")
    show_line(f"next: resnet-dist pull {promotion.name} --to DIR (or {promotion.name}@{digest}, whatever comes after)")
    if promotion.previous is not None:
        show_line(f"back to {promotion.previous[:SHORT]}: resnet-dist promote {promotion.name} --rollback")


def show_pull(pulled: PullOutcome) -> None:
    """What the folder holds."""
    what = "holds" if pulled.changed else "held already"
    checked = "every file and the signature checked" if pulled.is_signed else "every file checked"
    show_line(f"{pulled.folder} {what} {pulled.digest[:SHORT]} of {pulled.source}, {checked}")
    show_line(f"next: resnet-dist predict {pulled.folder} IMAGE...")
