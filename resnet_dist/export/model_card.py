"""README.md of a bundle: a model card in the form that Hugging Face reads.

https://huggingface.co/docs/hub/model-cards: YAML between two lines of dashes, then Markdown.
"""

import json
from typing import Any

from resnet_dist.export.parity import Parity


def model_card(
    name: str,
    classes: tuple[str, ...],
    provenance: dict[str, Any],
    operating: dict[str, Any],
    evaluation: dict[str, dict[str, Any]],
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
        "| split | images | top-1 | macro-F1 | rejected |",
        "|---|---|---|---|---|",
    ]
    for split, result in evaluation.items():
        metrics = result["metrics"]
        lines.append(
            f"| {split} | {result['samples']} | {_percent(metrics.get('top1'))} | {_percent(metrics.get('macro_f1'))} "
            f"| {_percent(result['rejected'])} |"
        )
    split, result = next(reversed(evaluation.items()))
    lines += ["", f"By class, on {split}:", "", "| class | recall | precision | images |", "|---|---|---|---|"]
    lines += [
        f"| {_plain(each)} | {_percent(of['recall'])} | {_percent(of['precision'])} | {of['support']} |"
        for each, of in result["classes"].items()
    ]
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


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _plain(name: str) -> str:
    """A class name that Markdown takes for nothing else."""
    return "".join(f"\\{letter}" if letter in "\\|`*_<>[]#" else letter for letter in " ".join(name.split()))
