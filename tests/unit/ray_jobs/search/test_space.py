from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check, dotted_fields
from ray_jobs.search.space import Space, job_with, value_of
from ray_jobs.search.space_table import searchable_fields
from ray_jobs.search.toml import read_search

RATE = {"optimizer.learning_rate": {"log_uniform": [0.001, 0.3]}}
KIND = {"schedule.kind": {"categorical": ["cosine", "one_cycle"]}}


def when(values: Any, field: str = "schedule.kind") -> dict[str, Any]:
    return {"schedule.one_cycle_rise": {"uniform": [0.1, 0.5], "when": {field: values}}}


def point(space: Space, seed: int) -> dict[str, Any]:
    sampler = optuna.samplers.RandomSampler(seed=seed)
    return space.suggest(optuna.create_study(sampler=sampler).ask())


@pytest.mark.parametrize(
    ("table", "parts"),
    [
        ({}, ["the space is empty", "optimizer.learning_rate"]),
        ({"optimizer.lr": {"uniform": [0.1, 0.2]}}, ["optimizer.lr", "did you mean optimizer.learning_rate?"]),
        ({"optimizer.learning_rte": {"uniform": [0.1, 0.2]}}, ["did you mean optimizer.learning_rate?"]),
        ({"qqqqqq": {"uniform": [0.1, 0.2]}}, ["qqqqqq", "unknown field", "--print-config"]),
        ({"optimizer": {"uniform": [0.1, 0.2]}}, ["space optimizer: unknown field"]),
        ({"model.dropout": 0.5}, ["model.dropout", "0.5 is no table"]),
        ({"model.dropout": {"uniform": [0.0, 1.5]}}, ["model.dropout", "1.5", "less than 1"]),
        ({"model.dropout": {"uniform": [-0.5, 0.5]}}, ["model.dropout", "-0.5", "greater than or equal to 0"]),
        ({"freezing.freeze_depth": {"int": [0, 6]}}, ["freezing.freeze_depth", "6", "less than or equal to 5"]),
        ({"freezing.freeze_depth": {"int": [0, 2.5]}}, ["int = [0, 2.5]", "whole numbers"]),
        ({"freezing.freeze_depth": {"uniform": [0, 5]}}, ["freezing.freeze_depth", "integer"]),
        ({"model.squeeze_excite": {"int": [0, 1]}}, ["model.squeeze_excite", "boolean"]),
        ({"optimizer.weight_decay": {"log_uniform": [0, 0.1]}}, ["log_uniform = [0, 0.1]", "above 0", "uniform"]),
        ({"model.dropout": {"uniform": [0.5, 0.1]}}, ["no room", "lower one comes first"]),
        ({"model.dropout": {"uniform": [0.1, 0.1]}}, ["no room"]),
        ({"model.dropout": {"uniform": [0.1]}}, ["no pair of numbers", "{ uniform = [0.0, 0.5] }"]),
        ({"model.dropout": {"uniform": [0.1, 0.2, 0.3]}}, ["no pair of numbers"]),
        ({"model.dropout": {"uniform": [False, True]}}, ["no pair of numbers"]),
        ({"optimizer.learning_rate": {"uniform": [0.1, float("inf")]}}, ["no pair of numbers"]),
        ({"model.dropout": {"uniform": 0.1}}, ["0.1 is no list"]),
        ({"model.dropout": {"categorical": []}}, ["[] is no list"]),
        ({"model.dropout": {"uniform": [0.0, 0.1], "int": [0, 1]}}, ["uniform and int", "give one of"]),
        ({"model.dropout": {}}, ["model.dropout", "none of them", "categorical, uniform"]),
        ({"model.dropout": {"normal": [0.0, 0.1]}}, ["'normal'", "give one of"]),
        ({"model.dropout": {"uniform": [0.0, 0.1], "step": 2}}, ["'step'"]),
        ({"model.dropout": {"categorical": [0.1, 0.2, 0.1]}}, ["names a value twice"]),
        ({"model.dropout": {"categorical": [0, 0.0]}}, ["names a value twice"]),
        ({"optimizer.clip_norm": {"categorical": ["none", "none"]}}, ["names a value twice"]),
        ({"model.arch": {"categorical": ["resnet19"]}}, ["model.arch", "'resnet19'", "'resnet18'"]),
        ({"augmentation.crop_area": {"categorical": [[0.1]]}}, ["augmentation.crop_area"]),
        (RATE | when(["one_cycle"]), ["schedule.one_cycle_rise", "schedule.kind, which is not in the space"]),
        (RATE | KIND | when(["step"]), ["schedule.kind='step'", "never is", "'cosine', 'one_cycle'"]),
        (KIND | when(["cosin"]), ["schedule.kind", "'cosin'"]),
        (RATE | when([0.5], "optimizer.learning_rate"), ["optimizer.learning_rate=0.5", "0.001, 0.3"]),
        (KIND | when([]), ["schedule.one_cycle_rise", "schedule.kind", "no value"]),
        (when(["one_cycle"]) | {"schedule.kind": 3}, ["schedule.kind", "3 is no table"]),
        ({"schedule.one_cycle_rise": {"uniform": [0.1, 0.5], "when": "always"}}, ["'always' is no table"]),
        (
            {
                "model.dropout": {"uniform": [0.0, 0.1], "when": {"freezing.freeze_depth": [0]}},
                "freezing.freeze_depth": {"int": [0, 5], "when": {"model.dropout": [0.0]}},
            },
            ["circle", "model.dropout and freezing.freeze_depth"],
        ),
        ({"model.dropout": {"uniform": [0.0, 0.1], "when": {"model.dropout": [0.0]}}}, ["circle"]),
    ],
)  # fmt: skip
def test_a_space_that_cannot_be_is_refused_with_field_value_and_rule(table: dict[str, Any], parts: list[str]):
    with pytest.raises(ConfigError) as caught:
        Space.of(table)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("seed", "one seed"),
        ("schedule.epochs", "whole length"),
        ("training.reduction", "how workers add"),
        ("training.epochs", "does not change what a run learns"),
        ("data.val_fraction", "split once"),
        ("data.class_order", "split once"),
        ("data.source", "same views"),
        ("data.root", "does not change"),
        ("cluster.num_workers", "does not change"),
        ("tracker.kind", "does not change"),
        ("storage.root", "does not change"),
        ("checkpoint.monitor", "does not change"),
        ("distillation.teacher", "all trials of a search learn from one teacher"),
        ("distillation.teacher_digest", "all trials share"),
    ],
)
def test_fields_that_may_not_be_searched_are_refused_with_the_reason(field: str, reason: str):
    known = {name for name, _, _ in dotted_fields()}
    section = field.partition(".")[0]
    field = field if field in known else next(name for name in sorted(known) if name.startswith(f"{section}."))
    with pytest.raises(ConfigError) as caught:
        Space.of({field: {"categorical": [1]}})
    assert f"space {field}: cannot be searched" in str(caught.value)
    assert reason in str(caught.value)
    assert field not in searchable_fields()


def test_every_problem_is_told_at_once():
    table = {"optimizer.lr": {"uniform": [0, 1]}, "model.dropout": {"uniform": [0.0, 7.0]}, "seed": {"int": [0, 1]}}
    with pytest.raises(ConfigError) as caught:
        Space.of(table)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "space optimizer.lr", "space model.dropout", "space seed",
    ]  # fmt: skip


def test_a_field_given_twice_is_refused():
    twice = {**RATE, "optimizer": {"learning_rate": {"uniform": [0.1, 0.2]}}}
    with pytest.raises(ConfigError, match=r"optimizer\.learning_rate.*twice"):
        Space.of(twice)


def test_dotted_and_quoted_keys_are_the_same(table: dict[str, Any]):
    nested: dict[str, Any] = {}
    for field, said in table.items():
        section, name = field.split(".")
        condition: dict[str, Any] = {}
        for other, values in said.get("when", {}).items():
            above, below = other.split(".")
            condition.setdefault(above, {})[below] = values
        nested.setdefault(section, {})[name] = said | ({"when": condition} if condition else {})
    dotted, quoted = Space.of(nested), Space.of(table)
    assert set(dotted.parameters) == set(quoted.parameters)
    assert [each.field for each in dotted.parameters if each.when] == ["schedule.kind", "schedule.polynomial_power"]


def test_a_single_value_is_a_condition_too():
    assert Space.of(KIND | when("one_cycle")) == Space.of(KIND | when(["one_cycle"]))


def test_a_condition_on_unset_does_not_hold_where_its_field_does_not_count():
    space = Space.of(
        {
            "freezing.freeze_depth": {"int": [0, 5]},
            "optimizer.clip_norm": {"categorical": ["none", 1.0], "when": {"freezing.freeze_depth": 0}},
            "model.dropout": {"uniform": [0.0, 0.5], "when": {"optimizer.clip_norm": "none"}},
        }
    )
    assert space.contains({"freezing.freeze_depth": 3})
    assert space.contains({"freezing.freeze_depth": 0, "optimizer.clip_norm": None, "model.dropout": 0.1})
    assert not space.contains({"freezing.freeze_depth": 3, "model.dropout": 0.1})
    assert not space.contains({"freezing.freeze_depth": 0, "optimizer.clip_norm": 1.0, "model.dropout": 0.1})


def test_parents_come_first(space: Space):
    placed: set[str] = set()
    for parameter in space.parameters:
        assert {field for field, _ in parameter.when} <= placed
        placed.add(parameter.field)


@given(st.integers(0, 2**31))
def test_what_is_suggested_lies_in_the_space_and_honours_conditions(seed: int):
    space = Space.of(
        {
            "schedule.polynomial_power": {"uniform": [0.5, 3.0], "when": {"schedule.kind": "polynomial"}},
            "schedule.kind": {"categorical": ["cosine", "polynomial"], "when": {"freezing.freeze_depth": [0, 1, 2]}},
            "freezing.freeze_depth": {"int": [0, 5]},
        }
    )
    params = point(space, seed)
    assert space.contains(params)
    shallow = params["freezing.freeze_depth"] <= 2
    assert ("schedule.kind" in params) is shallow
    assert ("schedule.polynomial_power" in params) is (params.get("schedule.kind") == "polynomial")
    for field in params:
        assert not space.contains({name: value for name, value in params.items() if name != field})
    assert not space.contains(params | {"model.dropout": 0.0})


@pytest.mark.parametrize(
    ("field", "outside"),
    [
        ("optimizer.learning_rate", [0.31, 0.0009, "0.1", None, True, float("nan")]),
        ("freezing.freeze_depth", [-1, 6, 2.5, False, "2"]),
        ("augmentation.crop_area", [(0.4, 1.0), [0.35, 1.0], 0.35]),
        ("optimizer.clip_norm", ["none", 1, True, 0.0]),
    ],
)
def test_other_values_lie_outside(space: Space, field: str, outside: list[Any]):
    params = point(space, 1) | {"freezing.freeze_depth": 5}
    params = {name: value for name, value in params.items() if not name.startswith("schedule.")}
    assert space.contains(params)
    assert [value for value in outside if space.contains({**params, field: value})] == []


@given(st.integers(0, 2**31))
def test_a_job_with_values_has_them_and_all_else_as_before(seed: int):
    _, space = read_search(None, {})
    job = check({"data": {"root": "x"}, "training": {"epochs": 3}})
    params = point(space, seed)
    changed = job_with(job, params)
    assert space.default(changed) == params
    assert job_with(changed, space.default(job) | {"schedule.kind": job.schedule.kind}).data == job.data
    for name, _, _ in dotted_fields():
        assert value_of(changed, name) == params.get(name, value_of(job, name))


def test_points_of_the_shipped_space_are_valid_jobs_and_the_default_is_one_of_them():
    _, space = read_search(None, {})
    job = JobConfig()
    space.check(job)
    default = space.default(job)
    assert space.contains(default)
    assert job_with(job, default) == job
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = [space.suggest(study.ask()) for _ in range(200)]
    assert all(space.contains(params) for params in points)
    assert len({repr(job_with(job, params)) for params in points}) == 200


def test_the_default_of_whole_numbers_is_what_would_be_suggested():
    """Equal parameters are one trial by their JSON, in which 0 and 0.0 differ."""
    space = Space.of({"training.mixup_alpha": {"int": [0, 2]}})
    (default,) = space.default(JobConfig()).values()
    assert (default, type(default)) == (0, int)
    assert space.default(check({"training": {"mixup_alpha": 0.5}})) == {"training.mixup_alpha": 0.5}


PRESET = {"freezing.preset": {"categorical": ["none", "gradual"]}}
DEPTH = {"int": [0, 5]}


def test_combinations_that_no_job_can_have_are_refused_with_an_example():
    space = Space.of(PRESET | {"freezing.freeze_depth": DEPTH})
    with pytest.raises(ConfigError, match="no job can have") as caught:
        space.check(JobConfig())
    text = str(caught.value)
    assert "`when`" in text
    assert "freezing.preset=gradual and freezing.freeze_depth=" in text
    assert len(text.splitlines()) <= 4


def test_a_condition_sets_combinations_apart():
    Space.of(PRESET | {"freezing.freeze_depth": {**DEPTH, "when": {"freezing.preset": ["none"]}}}).check(JobConfig())


def test_a_bound_that_only_the_whole_job_refuses_is_found():
    space = Space.of({"training.microbatch_size": {"int": [16, 48]}})
    with pytest.raises(ConfigError, match=r"training\.microbatch_size=\d+"):
        space.check(JobConfig())
    with pytest.raises(ConfigError, match="finite"):
        Space.of({"optimizer.learning_rate": {"categorical": [0.1, float("inf")]}}).check(JobConfig())


def test_how_to_learn_from_a_teacher_can_be_searched_where_there_is_one():
    fields = ("temperature", "weight", "features")
    space = Space.of({f"distillation.{field}": {"uniform": [0.5, 1.0]} for field in fields})
    space.check(check({"distillation": {"teacher": "large"}}))
    with pytest.raises(ConfigError, match=r"distillation.teacher names none"):
        space.check(check({}))
