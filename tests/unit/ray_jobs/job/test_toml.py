import tomllib
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check, dotted_fields, print_config, read_changes, read_job, read_job_text
from ray_jobs.job.toml_codec import merged, nearest
from tests.laws import examples

BOUND_TOGETHER = {
    "uri": None,
    "workers_per_node": 1,
    "global_batch_size": 48,
    "microbatch_size": 24,
    "nesterov": False,
    "val_fraction": 0.25,
    "test_fraction": 0.5,
    "resize": "whole",
    "rename_classes": ("old=new", "other=new"),
    "ignore_classes": ("blurred",),
    "class_order": ("new", "good"),
    "folds": 3,
    "fold": 1,
    "order": "full",
    "sampling": "all",
    "freeze_depth": 3,
    "preset": None,
    "stem": None,
    "layer1": None,
    "layer2": None,
    "layer3": None,
    "layer4": None,
    "loss": "cross_entropy",
    "crop_area": (0.2, 0.5),
    "crop_ratio": (0.5, 2.0),
    "erase_area": (0.1, 0.1),
    "erase_ratio": (1.0, 3.0),
    "formats": ("onnx", "openvino"),
    "recall": ("good=0.9",),
    "costs": ("old=2:1.5",),
    "widths": None,
    "teacher": "large",
    "teacher_digest": "0123456789abcdef",
}
"""Fields that validators tie to others of their section, with values that go with anything."""

BOUND_ACROSS = {
    "data": {"resize": "whole", "sampling": "all", "image_width": None},
    "model": {"quantisation": None},
    "freezing": {"preset": None, "freeze_depth": 0} | dict.fromkeys(("stem", "layer1", "layer2", "layer3", "layer4")),
}
"""The same for fields that the job's own validators tie to another section's."""


NAMES = {"gpu_resource": ("nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-1g.10gb.me")}
"""Texts that are names which others give."""


def values(kind: Any, limits: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    """Whatever a field's annotation allows."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        metadata = [item for extra in arguments[1:] for item in getattr(extra, "metadata", ())]
        return values(arguments[0], (*limits, *metadata))
    if origin in {Union, UnionType}:
        return st.one_of(st.none() if each is NoneType else values(each, limits) for each in arguments)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*(values(each) for each in arguments))
    if kind is bool:
        return st.booleans()
    found = {name: value for limit in limits for name, value in vars_of(limit).items()}
    if kind is int:
        low = found.get("ge", found.get("gt", -(2**40)))
        return st.integers(low, found["le"] if "le" in found else found.get("lt", 2**40) - 1)
    if kind is float:
        return st.floats(
            found.get("ge", found.get("gt")),
            found.get("le", found.get("lt")),
            exclude_min="gt" in found,
            exclude_max="lt" in found,
            allow_nan=False,
            allow_infinity=False,
        )
    assert kind is str
    return st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def vars_of(limit: Any) -> dict[str, Any]:
    names = ("ge", "gt", "le", "lt")
    return {name: getattr(limit, name) for name in names if getattr(limit, name, None) is not None}


@st.composite
def jobs(draw: st.DrawFn) -> JobConfig:
    tree: dict[str, Any] = {}
    for name, field in JobConfig.model_fields.items():
        section = field.annotation
        if name == "name":
            tree[name] = draw(st.none() | st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", fullmatch=True))
            continue
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            tree[name] = draw(values(field.annotation, tuple(field.metadata)))
            continue
        drawn = {
            inner: draw(
                st.sampled_from(NAMES[inner]) if inner in NAMES else values(each.annotation, tuple(each.metadata))
            )
            for inner, each in section.model_fields.items()
        }
        try:
            tree[name] = section.model_validate(drawn)
        except ValidationError:
            tied = {inner: value for inner, value in BOUND_TOGETHER.items() if inner in drawn}
            tree[name] = section.model_validate({**drawn, **tied})
    try:
        return JobConfig.model_validate(tree)
    except ValidationError:
        for name, tied in BOUND_ACROSS.items():
            tree[name] = type(tree[name]).model_validate({**tree[name].model_dump(), **tied})
        return JobConfig.model_validate(tree)


@settings(max_examples=examples(0.5), suppress_health_check=[HealthCheck.too_slow])
@given(jobs())
def test_a_printed_job_reads_back_as_itself(job: JobConfig):
    printed = print_config(job)
    assert read_job_text(printed, "printed") == job
    assert print_config(read_job_text(printed, "printed")) == printed


def test_a_printed_job_names_every_key_its_description_and_default():
    lines = print_config(JobConfig()).splitlines()
    for name, _, field in dotted_fields():
        (at,) = [number for number, line in enumerate(lines) if is_key(lines, number, name)]
        comment = []
        while at and lines[at - 1].startswith("# ") and "Default:" not in " ".join(comment[1:]):
            at -= 1
            comment.append(lines[at].removeprefix("# "))
        text = " ".join(reversed(comment))
        assert (field.description or "?").replace("\n", " ").split(". ")[0][:40] in text
        assert "Default: " in text


def is_key(lines: list[str], number: int, name: str) -> bool:
    section, _, key = name.rpartition(".")
    line = lines[number].removeprefix("# ")
    above = [each for each in lines[:number] if each.startswith("[")]
    return line.startswith(f"{key} = ") and (above[-1] if above else "[]") == f"[{section}]"


def test_unset_keys_are_commented_out():
    printed = print_config(JobConfig())
    assert "# name = unset" in printed.splitlines()
    assert "name" not in tomllib.loads(printed)


def test_what_has_a_default_is_unset_by_none():
    job = check({"checkpoint": {"every_minutes": "none"}})
    assert job.checkpoint.every_minutes is None
    assert 'every_minutes = "none"' in print_config(job).splitlines()
    assert check({"name": "none"}).name == "none"


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path):
    path = tmp_path / "job.toml"
    path.write_text("seed = 7\n[training]\nepochs = 3\nema_decay = 0.9\n")
    job = read_job(path, {"training": {"epochs": 5, "ema_decay": None}, "data": {"root": "x"}})
    assert (job.seed, job.training.epochs, job.training.ema_decay) == (7, 5, None)
    assert (job.data.root, job.training.global_batch_size) == ("x", JobConfig().training.global_batch_size)


@given(
    st.recursive(st.integers(), lambda below: st.dictionaries(st.sampled_from("abc"), below)).filter(
        dict.__instancecheck__
    )
)
def test_merging_is_idempotent_and_has_a_neutral_element(tree: dict[str, Any]):
    assert merged(tree, tree) == merged(tree, {}) == merged({}, tree) == tree


@pytest.mark.parametrize(
    ("tree", "parts"),
    [
        ({"optimizer": {"learning_rte": 1.0}}, ["optimizer.learning_rte", "did you mean optimizer.learning_rate?"]),
        ({"optimizer": {"lr": 1.0}}, ["optimizer.lr", "did you mean optimizer.learning_rate?"]),
        ({"optimiser": {"kind": "sgd"}}, ["optimiser", "did you mean optimizer?"]),
        ({"epochs": 3}, ["schedule.epochs or training.epochs"]),
        ({"storage": {"zzz": 3}}, ["storage.zzz", "use one of storage.root"]),
        ({"training": {"epochs": 0}}, ["training.epochs=0", "greater than or equal to 1"]),
        ({"training": {"epochs": "3"}}, ["training.epochs='3'", "integer"]),
        ({"training": {"epochs": True}}, ["training.epochs=True", "integer"]),
        ({"training": {"ema_decay": 1.0}}, ["training.ema_decay=1.0", "less than 1"]),
        ({"training": {"microbatch_size": 48}}, ["training.microbatch_size=48", "use 32 or 64"]),
        ({"training": {"microbatch_size": 33}}, ["training.microbatch_size=33", "is odd", "use 16 or 32"]),
        ({"optimizer": {"nesterov": True, "momentum": 0.0}}, ["nesterov", "set optimizer.nesterov=false"]),
        ({"data": {"source": "synthetic", "resize": "letterbox"}}, ["data.resize=letterbox", "use data.resize=whole"]),
        ({"data": {"mean": [0.5, 0.5]}}, ["data.mean"]),
        ({"data": 3}, ["data=3"]),
        ({"data": {"root": "a\udc80"}}, ["data.root", "UTF-8"]),
        ({"optimizer": {"learning_rate": float("inf")}}, ["optimizer.learning_rate=inf", "finite"]),
        ({"model": {"arch": "resnet19"}}, ["model.arch='resnet19'", "'resnet18'"]),
        ({"name": ".hidden"}, ["name='.hidden'", "letters"]),
        ({"seed": 2**63}, [f"seed={2**63}"]),
    ],
)
def test_a_problem_names_key_value_rule_and_remedy(tree: dict[str, Any], parts: list[str]):
    with pytest.raises(ConfigError) as caught:
        check(tree)
    (line,) = str(caught.value).splitlines()
    for part in parts:
        assert part in line


def test_all_problems_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        check({"seed": -1, "optimizer": {"momentum": 2.0, "eps": 0}, "data": {"rot": "x"}})
    assert [line.partition("=")[0].partition(":")[0] for line in str(caught.value).splitlines()] == [
        "seed",
        "data.rot",
        "optimizer.momentum",
        "optimizer.eps",
    ]


@pytest.mark.parametrize("text", ["[data\n", "seed = 1\nseed = 2\n", "seed = 2026-01-01\n", "\x00"])
def test_a_broken_file_is_a_config_error_that_names_it(tmp_path: Path, text: str):
    path = tmp_path / "job.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"job\.toml|seed=2026-01-01"):
        read_job(path, {})


def test_a_file_that_is_not_there_or_not_text_is_a_config_error(tmp_path: Path):
    (tmp_path / "job.toml").write_bytes(b"\xff\xfe")
    for name in ("absent.toml", "job.toml", ""):
        with pytest.raises(ConfigError, match="cannot be read"):
            read_job(tmp_path / name, {})


def test_nearest_is_silent_where_nothing_is_alike():
    known = [name for name, _, _ in dotted_fields()]
    assert nearest("qqqqqq", known) == ()
    assert nearest("data.qqqqqq", known) == ()
    assert nearest("cluster.num-worker", known) == ("cluster.num_workers",)


@pytest.mark.parametrize(
    "flags",
    [
        {"distillation": {"temperature": 3.0}},
        {"model": {"widths": "64 64:16,16 128:32,32 256:128,64 512:512,512"}},
        {"training": {"microbatch_size": 48}},
    ],
)
def test_what_changes_another_job_may_need_what_that_job_has(flags: dict[str, Any]):
    assert read_changes(None, flags) == flags
    with pytest.raises(ConfigError):
        check(flags)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"distillation": {"temperature": 0.0}}, "distillation.temperature=0.0"),
        ({"distilation": {"temperature": 3.0}}, "distilation: unknown key"),
        ({"optimizer": {"learning_rate": float("nan")}}, "must be finite"),
        ({"training": {"epochs": "three", "microbatch_size": 48}}, "training.epochs='three'"),
    ],
)
def test_a_value_that_changes_another_job_is_checked_by_itself(flags: dict[str, Any], words: str):
    with pytest.raises(ConfigError) as caught:
        read_changes(None, flags)
    assert words in str(caught.value)
    assert "microbatch_size" not in str(caught.value)


def test_a_wrong_change_of_a_file_names_the_file(tmp_path: Path):
    path = tmp_path / "changes.toml"
    path.write_text("[training]\nepochs = 0\n")
    with pytest.raises(ConfigError, match=r"changes\.toml: training\.epochs=0"):
        read_changes(path, {})
