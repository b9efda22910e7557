import re
from typing import Any

from resnet_dist.export.model_card import model_card
from resnet_dist.export.parity import Parity

PARITY = Parity(
    verdict="inconclusive",
    reason="too few",
    samples=40,
    top1=0.9,
    top1_difference=0.0125,
    top1_difference_interval=(-0.01, 0.03),
    macro_f1=0.9,
    macro_f1_difference=0.01,
    agreement=0.99,
    agreement_on_noise=0.98,
    max_logit_difference=0.25,
    mean_logit_difference=0.01,
    relative_logit_difference=0.02,
    calibration_error=0.03,
    megabytes=11.25,
    milliseconds=3.5,
)
JUDGED: dict[str, Any] = {
    "samples": 40,
    "rejected": 0.1,
    "metrics": {"top1": 0.875, "macro_f1": 0.75},
    "classes": {name: {"recall": 0.5, "precision": 0.25, "support": 20} for name in ("go|od", "<b>crack</b>\nx")},
}


def card(judged: dict[str, Any]) -> str:
    provenance = {"run": "r", "arch": "resnet18", "packages": {"torch": "2.14.1"}}
    return model_card(
        "line 7", ("go|od", "<b>crack</b>\nx"), provenance, {"temperature": 1.5}, judged, {"onnx": PARITY}
    )


def test_the_card_begins_with_what_hugging_face_reads():
    head = card({"val": JUDGED}).split("---\n")[1]
    assert re.search(r'^pipeline_tag: "image-classification"$', head, re.M)
    assert re.search(r"^tags: \[", head, re.M)


def test_class_names_cannot_break_the_tables():
    text = card({"val": JUDGED})
    rows = [line for line in text.splitlines() if line.startswith("| go") or ("crack" in line and line.startswith("|"))]
    assert len(rows) == 2
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)
    assert "<b>" not in re.sub(r"\\.", "", text)


def test_the_card_says_what_test_came_to_where_there_is_one():
    text = card({"val": JUDGED, "test": {**JUDGED, "metrics": {"top1": 0.5, "macro_f1": 0.4}}})
    assert "| test | 40 | 50.0 % | 40.0 % | 10.0 % |" in text
    assert "By class, on test:" in text
    assert "| onnx | inconclusive | 1.25 points | 99.0 % | 0.25 | 11.2 |" in text
    assert card({"val": {**JUDGED, "metrics": {}}})
