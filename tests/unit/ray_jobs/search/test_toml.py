import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.errors import ConfigError
from ray_jobs.job.identity import difference
from ray_jobs.search.config import MONITORS, OBJECTIVES, SearchConfig
from ray_jobs.search.space import Space
from ray_jobs.search.toml import print_search, read_search, read_search_text, search_identity

FLOATS = {
    "optimizer.learning_rate": (1e-5, 10.0),
    "optimizer.weight_decay": (1e-9, 1.0),
    "model.dropout": (1e-3, 0.9),
    "schedule.warmup_epochs": (0.125, 5.0),
    "schedule.polynomial_power": (0.5, 3.0),
}
INTS = {"freezing.freeze_depth": (0, 5), "schedule.plateau_patience": (0, 9), "training.cutmix_alpha": (0, 4)}
CHOICES: dict[str, list[Any]] = {
    "schedule.kind": ["cosine", "one_cycle", "step"],
    "model.squeeze_excite": [True, False],
    "model.weights": ["none", "imagenet", 'a "quoted" \\ path\x7f', "é\n"],
    "augmentation.crop_area": [[0.35, 1.0], [0.5, 0.5], [1e-3, 1.0]],
    "optimizer.clip_norm": ["none", 1.0, 1e22],
    "freezing.preset": ["none", "gradual"],
    "data.image_width": ["none", 64, 128],
}


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """[space] tables of any kinds and conditions, in any order."""
    fields = draw(st.lists(st.sampled_from([*FLOATS, *INTS, *CHOICES]), min_size=1, unique=True))
    table: dict[str, Any] = {}
    for field in fields:
        said: dict[str, Any]
        if field in FLOATS:
            low, high = sorted(draw(st.lists(st.floats(*FLOATS[field]), min_size=2, max_size=2, unique=True)))
            said = {draw(st.sampled_from(["uniform", "log_uniform"])): [low, high]}
        elif field in INTS:
            said = {"int": sorted(draw(st.lists(st.integers(*INTS[field]), min_size=2, max_size=2, unique=True)))}
        else:
            said = {"categorical": draw(st.lists(st.sampled_from(CHOICES[field]), min_size=1, unique_by=repr))}
        parents = [name for name, above in table.items() if not {"uniform", "log_uniform"} & above.keys()]
        if parents and draw(st.booleans()):
            parent = draw(st.sampled_from(parents))
            values = table[parent].get("categorical") or list(range(*table[parent]["int"]))
            said["when"] = {parent: draw(st.lists(st.sampled_from(values), min_size=1, unique_by=repr))}
        table[field] = said
    return {field: table[field] for field in draw(st.permutations(fields))}


@st.composite
def configs(draw: st.DrawFn) -> SearchConfig:
    first = draw(st.sampled_from(MONITORS))
    others = draw(st.lists(st.sampled_from([name for name in OBJECTIVES if name != first]), unique=True))
    one = not others
    return SearchConfig.model_validate(
        {
            "objectives": (first, *others),
            "sampler": draw(st.sampled_from(["tpe", "gp", "random", *(["cmaes"] if one else [])])),
            "scheduler": draw(st.sampled_from([None, "none", *(["asha", "median"] if one else [])])),
            "reduction_factor": draw(st.floats(1.0, 1e9, exclude_min=True)),
            "trials": draw(st.integers(1, 10**6)),
            "hours": draw(st.none() | st.floats(1e-9, 1e9)),
            "total_epochs": draw(st.none() | st.integers(1, 10**6)),
            "gpus_per_worker": draw(st.floats(0.0, 1.0, exclude_min=True)),
            "reuse_folder": draw(st.sampled_from(["", "none", "/a b/\"c\"", "unset"])),
            "reuse_gib": draw(st.none() | st.floats(1e-3, 1e6)),
        }
    )  # fmt: skip


@given(configs(), tables())
def test_a_printed_search_reads_back_as_itself(config: SearchConfig, table: dict[str, Any]):
    space = Space.of(table)
    printed = print_search(config, space)
    assert read_search_text(printed, "printed") == (config, space)
    assert print_search(*read_search_text(printed, "printed")) == printed
    identity = search_identity(config, space)
    assert json.loads(json.dumps(identity)) == identity
    assert f"space {next(iter(table))}" in identity


def test_a_printed_search_explains_every_setting():
    printed = print_search(*read_search(None, {}))
    for name, field in SearchConfig.model_fields.items():
        assert field.description
        assert f"# {field.description.splitlines()[0]}" in printed
        assert f"\n{name} = " in printed or f"\n# {name} = unset" in printed


def test_flags_win_over_the_file(tmp_path: Path):
    path = tmp_path / "search.toml"
    path.write_text('trials = 3\nhours = 2.0\nsampler = "gp"\n[space]\nmodel.dropout = { uniform = [0.0, 0.5] }\n')
    config, space = read_search(path, {"trials": 5, "hours": "none"})
    assert (config.trials, config.hours, config.sampler) == (5, None, "gp")
    assert [each.field for each in space.parameters] == ["model.dropout"]


SPACE = "[space]\nmodel.dropout = { uniform = [0.0, 0.5] }\n"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("trials = ", ["s.toml is not TOML"]),
        ("trials = 3\ntrials = 4\n", ["s.toml is not TOML"]),
        ("trials = 3\n", ["the space is empty"]),
        ("[space]\n", ["the space is empty"]),
        ("space = 3\n", ["s.toml", "space = 3 is no table"]),
        ("trails = 3\n" + SPACE, ["search.trails: unknown key", "did you mean trials?"]),
        ("qqqqqq = 3\n" + SPACE, ["search.qqqqqq: unknown key", "use one of objectives, ", "reuse_gib."]),
        ("trials = 0\n" + SPACE, ["search.trials=0", "greater than or equal to 1"]),
        ('trials = "3"\n' + SPACE, ["search.trials='3'", "integer"]),
        ("trials = 2.5\n" + SPACE, ["search.trials=2.5"]),
        ('sampler = "none"\n' + SPACE, ["search.sampler='none'", "'tpe'"]),
        ('sampler = "bayes"\n' + SPACE, ["search.sampler='bayes'", "'tpe'"]),
        ("gpus_per_worker = 1.5\n" + SPACE, ["search.gpus_per_worker=1.5"]),
        ("reduction_factor = 1\n" + SPACE, ["search.reduction_factor=1", "greater than 1"]),
        ("hours = 2026-01-01\n" + SPACE, ["search.hours='2026-01-01'"]),
        ("objectives = []\n" + SPACE, ["search.objectives is empty", "val/macro_f1"]),
        ('objectives = ["val/f1"]\n' + SPACE, ["search.objectives.0='val/f1'", "'val/macro_f1'"]),
        ('model = "resnet18"\n' + SPACE, ["search.model: unknown key", "[space]"]),
        ('[space]\n"optimizer.lr" = { uniform = [0.1, 0.2] }\n', ["did you mean optimizer.learning_rate?"]),
        ('[space]\n"optimizer.learning_rate" = { categorical = [2026-01-01] }\n', ["no value that a job can hold"]),
    ],
)  # fmt: skip
def test_a_problem_names_source_key_value_and_remedy(text: str, parts: list[str]):
    with pytest.raises(ConfigError) as caught:
        read_search_text(text, "s.toml")
    for part in parts:
        assert part in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_a_config_error(tmp_path: Path):
    (tmp_path / "s.toml").write_bytes(b"\xff\xfe")
    for name in ("absent.toml", "s.toml", ""):
        with pytest.raises(ConfigError, match="cannot be read"):
            read_search(tmp_path / name, {})


BUDGET = {
    "trials", "hours", "total_epochs", "max_concurrent_trials", "workers_per_trial", "gpus_per_worker", "reuse",
    "reuse_folder", "reuse_gib",
}  # fmt: skip


def test_a_budget_may_be_raised_and_what_is_searched_may_not():
    config, space = read_search(None, {})
    found = search_identity(config, space)
    assert {name for name in SearchConfig.model_fields if f"search.{name}" not in found} == BUDGET
    _, other = read_search_text(print_search(config, space).replace("[0.0, 2.0]", "[0.0, 3.0]"), "other")
    (line,) = difference(found, search_identity(config, other))
    assert line.startswith("space schedule.warmup_epochs: ")
    assert get_args(SearchConfig.model_fields["sampler"].annotation)[0] == config.sampler
