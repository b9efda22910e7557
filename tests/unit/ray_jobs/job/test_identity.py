import json
from typing import Any

import pytest

from ray_jobs.job.identity import belongs, completed, difference, identity
from ray_jobs.job.toml import check, dotted_fields

FIELDS = list(dotted_fields())
WHERE_AND_HOW = {
    "name",
    "data.root",
    "data.labels",
    "data.leakage",
    "data.max_pixels",
    "data.decode_threads",
    "data.prefetch",
    "data.cache_dir",
    "training.epochs",
    "training.log_every_steps",
    "training.early_stopping",
    "training.early_stopping_monitor",
    "training.early_stopping_patience",
    "training.early_stopping_min_delta",
    "training.max_skipped_steps",
    "distillation.teacher",
}
"""Outside the sections that say so as a whole."""


@pytest.mark.parametrize(("name", "section", "field"), FIELDS, ids=[name for name, _, _ in FIELDS])
def test_every_field_says_whether_it_belongs(name: str, section: Any, field: Any):
    outside = name in WHERE_AND_HOW or name.startswith(
        ("checkpoint.", "evaluation.", "export.", "storage.", "cluster.", "tracker.")
    )
    assert belongs(section, field) is not outside


def test_what_is_in_the_identity_is_what_belongs():
    expected = {name for name, section, field in FIELDS if belongs(section, field)}
    assert identity(check({}), "f").keys() == expected | {"data fingerprint"}


def test_an_identity_survives_json():
    found = identity(check({"augmentation": {"crop_area": [0.5, 1.0]}}), "abc")
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize(
    "tree",
    [
        {"data": {"root": "elsewhere"}},
        {"training": {"epochs": 99}},
        {"cluster": {"num_workers": 7}},
        {"storage": {"root": "s3://b"}},
        {"name": "other"},
    ],
)
def test_where_it_runs_and_for_how_long_makes_no_difference(tree: dict[str, Any]):
    assert difference(identity(check({}), "f"), identity(check(tree), "f")) == []


def test_a_difference_reads_old_to_new_and_covers_the_data():
    old = identity(check({"schedule": {"epochs": 4}}), "f")
    new = identity(check({"optimizer": {"learning_rate": 0.05}, "schedule": {"epochs": 5}}), "g")
    assert difference(old, new) == [
        "data fingerprint: f -> g",
        "optimizer.learning_rate: 0.01 -> 0.05",
        "schedule.epochs: 4 -> 5",
    ]


def test_a_field_that_an_older_version_did_not_have_is_a_difference():
    old = identity(check({}), "f")
    del old["training.reduction"]
    assert difference(old, identity(check({}), "f")) == ["training.reduction: absent -> None"]


def test_a_run_of_a_version_without_teachers_is_the_same_run_without_a_teacher():
    old = {name: value for name, value in identity(check({}), "f").items() if not name.startswith("distillation.")}
    assert difference(completed(old), identity(check({}), "f")) == []
    taught = {"teacher": "large", "teacher_digest": "0123456789abcdef"}
    assert difference(completed(old), identity(check({"distillation": taught}), "f")) == [
        "distillation.teacher_digest: None -> 0123456789abcdef"
    ]


def test_where_a_teacher_lies_makes_no_difference():
    first, second = ({"distillation": {"teacher": name, "teacher_digest": "0" * 16}} for name in ("large", "/a/large"))
    assert difference(identity(check(first), "f"), identity(check(second), "f")) == []
