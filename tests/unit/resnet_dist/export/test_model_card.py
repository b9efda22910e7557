import re
from dataclasses import replace

from resnet_dist.evaluation.judged_answers import ClassCounts, JudgedAnswers
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
CRACK = ClassCounts(20, 16, 3, 1, 5, 0.8, 0.76, asked_recall=0.8)
JUDGED = JudgedAnswers(
    samples=40,
    right=35,
    wrong=4,
    rejected=1,
    metrics={"top1": 0.875, "macro_f1": 0.75, "balanced_accuracy": 0.85},
    classes={"go|od": ClassCounts(20, 19, 1, 0, 2, 0.95, 0.905), "<b>crack</b>\nx": CRACK},
)


def card(judged: dict[str, JudgedAnswers]) -> str:
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
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 11 for row in rows)
    assert "<b>" not in re.sub(r"\\.", "", text)


def test_the_card_counts_the_images_of_each_split_and_class():
    text = card({"val": JUDGED, "test": replace(JUDGED, right=20, wrong=19, metrics={"top1": 0.5, "macro_f1": 0.4})})
    assert "| val | 40 | 35 | 4 | 1 | 87.5 % | 75.0 % |" in text
    assert "| test | 40 | 20 | 19 | 1 | 50.0 % | 40.0 % |" in text
    assert text.index("By class, on val:") < text.index("By class, on test:")
    assert "| 20 | 16 | 3 | 1 | 5 | 80.0 % | 80 % | 76.0 % |  |" in text
    assert "| 20 | 19 | 1 | 0 | 2 | 95.0 % |  | 90.5 % |  |" in text
    assert "| onnx | inconclusive | 1.25 points | 99.0 % | 0.25 | 11.2 |" in text


def test_a_class_of_too_few_images_is_marked_in_the_card_and_in_the_json():
    judged = replace(JUDGED, classes={"few": ClassCounts(9, 9, 0, 0, 0, 1.0, 1.0), "crack": CRACK})
    text = card({"val": judged})
    assert "| 9 | 9 | 0 | 0 | 0 | 100.0 % |  | 100.0 % | too few images to judge |" in text
    assert text.count("too few images to judge") == 1
    remarks = {name: of["remark"] for name, of in judged.to_json()["classes"].items()}
    assert remarks == {"few": "too few images to judge", "crack": ""}
