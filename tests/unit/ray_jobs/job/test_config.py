import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig, run_name
from ray_jobs.job.preprocessing import preprocess_of
from ray_jobs.job.toml import check
from resnet_dist.config import Monitor


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_derived_name_is_one_that_may_be_given(root: str):
    name = run_name(check({"data": {"root": root}}))
    assert run_name(check({"name": name})) == name
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name)


@pytest.mark.parametrize(
    ("root", "name"),
    [
        ("/data/tiles", "tiles-resnet50"),
        ("tiles/", "tiles-resnet50"),
        ("/a/Prüfteile 2026!", "Pr-fteile-2026-resnet50"),
        ("/a/.hidden", "hidden-resnet50"),
        ("s3://bucket/tiles", "tiles-resnet50"),
        ("", "data-resnet50"),
        ("/", "data-resnet50"),
        ("..", "data-resnet50"),
        ("x" * 300, "x" * 70 + "-resnet50"),
    ],
)
def test_a_run_is_named_after_its_folder_and_architecture(root: str, name: str):
    assert run_name(check({"data": {"root": root}})) == name


@pytest.mark.parametrize("field", ["checkpoint.monitor", "training.early_stopping_monitor", "schedule.plateau_monitor"])
def test_a_monitor_that_validation_does_not_measure_is_refused_with_those_that_it_does(field: str):
    section, name = field.split(".")
    with pytest.raises(ConfigError, match=rf"{field}='val/top5'") as caught:
        check({section: {name: "val/top5"}})
    for monitor in get_args(Monitor):
        assert monitor in str(caught.value)


def test_a_given_name_wins():
    assert run_name(check({"name": "trial-3.b", "data": {"root": "tiles"}})) == "trial-3.b"


@pytest.mark.parametrize("name", ["", ".a", "a/b", "a b", "a\n", "ä", "x" * 101])
def test_names_that_no_folder_should_have_are_refused(name: str):
    with pytest.raises(ValidationError, match="letters"):
        JobConfig(name=name)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [("cluster", "lease_ttl_s", 3601), ("storage", "outage_s", -1), ("storage", "outage_s", 86_401)],
)
def test_waiting_for_others_and_for_storage_is_bounded(section: str, field: str, value: float):
    with pytest.raises(ConfigError, match=f"{section}.{field}={value}"):
        check({section: {field: value}})


@pytest.mark.parametrize("name", ["gpu", "amd.com/gpu", "nvidia.com/mig-10gb", "nvidia.com/gpu\n", ""])
def test_a_workers_gpu_is_a_resource_of_nvidias_device_plugin(name: str):
    with pytest.raises(ConfigError, match=r"cluster\.gpu_resource='.*': must be nvidia\.com/gpu, .*kubectl describe"):
        check({"cluster": {"gpu_resource": name}})


def test_several_parts_of_gpus_in_a_pod_are_refused():
    tree = {"gpu_resource": "nvidia.com/mig-1g.10gb", "num_workers": 2, "workers_per_node": 2}
    with pytest.raises(
        ConfigError,
        match=r"^cluster\.workers_per_node=2 does not go with cluster\.gpu_resource=nvidia\.com/mig-1g\.10gb: .* = 1",
    ):
        check({"cluster": tree})
    check({"cluster": tree | {"workers_per_node": 1}})
    check({"cluster": tree | {"use_gpu": False}})


def test_a_job_is_frozen():
    job = JobConfig()
    with pytest.raises(ValidationError, match="frozen"):
        job.seed = 3  # pyright: ignore[reportAttributeAccessIssue]
    assert hash(job) == hash(JobConfig())


def test_quarter_turns_need_a_square_input() -> None:
    tree = {"augmentation": {"quarter_turns": True}}
    for data in ({}, {"image_size": 96}, {"image_size": 96, "image_width": 96}):
        check(tree | {"data": data})
    with pytest.raises(ConfigError, match=r"quarter_turns=true turns an input of 96x160 .* into one of 160x96"):
        check(tree | {"data": {"image_size": 96, "image_width": 160}})


def test_the_contract_is_a_number_where_the_input_is_square() -> None:
    assert preprocess_of(check({"data": {"image_size": 96, "image_width": 96}})).to_json()["size"] == 96
    assert preprocess_of(check({"data": {"image_size": 96, "image_width": 160}})).to_json()["size"] == (96, 160)
