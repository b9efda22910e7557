"""README.md of a bundle: a model card in the form that Hugging Face reads.

https://huggingface.co/docs/hub/model-cards: YAML between two lines of dashes, then Markdown.
"""

import json
from typing import Any

from resnet_dist.evaluation.judged_answers import ClassCounts, JudgedAnswers
from resnet_dist.export.parity import Parity


def model_card(
    name: str,
    classes: tuple[str, ...],
    provenance: dict[str, Any],
    operating: dict[str, Any],
    evaluation: dict[str, JudgedAnswers],
    parities: dict[str, Parity],
) -> str:
    """The card of a bundle. `evaluation`: what `judge_answers` gives for each split."""
    head = {
        "library_name": "resnet-dist",
        "pipeline_tag": "image-classification",
        "tags": ["resnet", "image-classification"],
    }
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---", "", f"# {name}", ""]
    lines += [
        f"A {provenance['arch']} that tells {len(classes)} classes apart: {', '.join(map(_plain, classes))}.",
        "",
        "```python",
        "from resnet_dist.runtime.predictor import Predictor",
        "",
        'Predictor.from_bundle("this folder").predict(["image.jpg"])',
        "```",
        "",
        "## How it answers",
        "",
        "Every number is of all images of its split: a rejected image counts, and is not right.",
        "",
        "| split | images | right | wrong | rejected | top-1 | macro-F1 |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {split} | {of.samples} | {of.right} | {of.wrong} | {of.rejected} | {_percent(of.metrics['top1'])} "
        f"| {_percent(of.metrics['macro_f1'])} |"
        for split, of in evaluation.items()
    ]
    for split, judged in evaluation.items():
        lines += ["", f"By class, on {split}:", ""]
        lines += ["| class | images | found | missed | rejected | false alarms | recall | asked | precision | remark |"]
        lines += ["|---|---|---|---|---|---|---|---|---|---|"]
        lines += [_row(name, of) for name, of in judged.classes.items()]
    lines += ["", f"Operating point: `{json.dumps(operating)}`", "", "## Formats", ""]
    lines += ["| format | verdict | top-1 lost | agreement | logits differ by | MB |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {each} | {parity.verdict} | {100 * parity.top1_difference:.2f} points | {_percent(parity.agreement)} "
        f"| {parity.max_logit_difference:.2g} | {parity.megabytes:.1f} |"
        for each, parity in parities.items()
    ]
    lines += ["", "## Where it comes from", ""]
    lines += [f"- {key}: `{json.dumps(value)}`" for key, value in provenance.items() if key != "packages"]
    lines += ["", "Packages: " + ", ".join(f"{each} {number}" for each, number in provenance["packages"].items()), ""]
    return "\n".join(lines)


def _row(name: str, of: ClassCounts) -> str:
    asked = "" if of.asked_recall is None else f"{100 * of.asked_recall:g} %"
    return (
        f"| {_plain(name)} | {of.images} | {of.found} | {of.missed} | {of.rejected} | {of.false_alarms} "
        f"| {_percent(of.recall)} | {asked} | {_percent(of.precision)} | {of.remark} |"
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _plain(name: str) -> str:
    """A class name that Markdown takes for nothing else."""
    return "".join(f"\\{letter}" if letter in "\\|`*_<>[]#" else letter for letter in " ".join(name.split()))
