"""The request for a cluster reads back as the command's own job, and tells jobs apart where they differ."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.jobs import entrypoint
from ray_jobs.errors import ConfigError
from ray_jobs.job.toml import check, print_overrides, read_changes, read_job, read_job_and_overrides
from ray_jobs.job.verb_fields import of_evaluation, of_export
from ray_jobs.search.toml import read_search, read_search_text
from ray_jobs.submission.command import PoolFlags, SubmitCommand, on_compressed
from ray_jobs.submission.plan import plan_for_pool
from ray_jobs.submission.request import ray_request
from tests.complaints import complains

WHERE: dict[str, Any] = {"data": {"root": "s3://bucket/tiles"}, "storage": {"root": "s3://bucket/out"}}
OVERRIDES = st.fixed_dictionaries(
    {},
    optional={
        "data": st.fixed_dictionaries(
            {},
            optional={
                "root": st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs")), min_size=1),
                "max_pixels": st.integers(1, 10**9),
            },
        ),
        "storage": st.fixed_dictionaries({"root": st.just("s3://bucket/out")}),
        "export": st.fixed_dictionaries({}, optional={"formats": st.just(["onnx", "torchscript"])}),
    },
)


@given(OVERRIDES)
def test_overrides_read_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, overrides: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("job") / "job.toml"
    path.write_text(print_overrides(overrides), encoding="utf-8")
    _, read = read_job_and_overrides(path, {}, of_export)
    assert {name: section for name, section in read.items() if section} == {
        name: section for name, section in overrides.items() if section
    }


@pytest.mark.parametrize("verb", ["train", "tune"])
def test_a_whole_job_reads_back_with_where_it_runs(tmp_path: Path, verb: Any) -> None:
    job = check({**WHERE, "optimizer": {"learning_rate": 0.03}, "cluster": {"num_workers": 3, "use_gpu": False}})
    search = read_search(None, {}) if verb == "tune" else None
    request = plan_for_pool(SubmitCommand(verb, job, search=search), PoolFlags()).request
    (tmp_path / "job.toml").write_text(request.job_toml)
    told = read_job(tmp_path / "job.toml", {})
    assert (told.cluster.address, told.cluster.num_workers, told.cluster.use_gpu) == ("auto", 3, False)
    assert told.cluster.cpus_per_worker == 2
    same = told.model_copy(update={"cluster": job.cluster})
    assert same == job
    if search is not None:
        assert read_search_text(request.search_toml or "", "search.toml") == search


def test_work_on_a_run_is_told_only_what_was_said(tmp_path: Path) -> None:
    """The rest is the run's own, which is not known here."""
    overrides = {"storage": {"root": "s3://bucket/out"}, "evaluation": {"batch_size": 7}}
    job = check({**overrides, "cluster": {"use_gpu": False}})
    command = SubmitCommand("evaluate", job, run="tiles", options=("--split", "val"), overrides=overrides)
    request = plan_for_pool(command, PoolFlags()).request
    (tmp_path / "job.toml").write_text(request.job_toml)
    _, read = read_job_and_overrides(tmp_path / "job.toml", {}, of_evaluation)
    cluster = read.pop("cluster")
    assert read == overrides
    assert cluster["address"] == "auto"
    assert request.arguments == ("tiles", "--split", "val")
    assert request.run == "s3://bucket/out/runs/tiles"


PRUNE = ("prune", "--target", "macs=0.5")


def compressed(*options: str, run: str = "tiles", **sections: Any) -> SubmitCommand:
    overrides = {"storage": {"root": "s3://bucket/out"}, **sections}
    return SubmitCommand("compress", check(overrides), run=run, options=options, overrides=overrides)


def test_a_compression_is_named_by_the_run_that_it_makes(tmp_path: Path) -> None:
    plan = plan_for_pool(compressed(*PRUNE, distillation={"teacher": "tiles", "temperature": 4.0}), PoolFlags())
    request = plan.request
    assert request.arguments == ("prune", "tiles", "--target", "macs=0.5")
    assert request.run == "s3://bucket/out/runs/tiles-pruned"
    assert request.name == "tiles-pruned-compress"
    assert plan.placement.use_gpu  # it trains
    words = shlex.split(entrypoint(request, "/etc/job"))
    assert words[3:] == ["compress", "prune", "tiles", "--target", "macs=0.5", "--config", "/etc/job/job.toml"]
    (tmp_path / "job.toml").write_text(request.job_toml)
    _, read = read_job_and_overrides(tmp_path / "job.toml", {}, lambda _: True)
    assert read["distillation"]["temperature"] == 4.0
    assert read["storage"]["root"] == "s3://bucket/out"
    assert read["cluster"]["address"] == "auto"


def test_a_switch_is_passed_on_without_a_value() -> None:
    request = plan_for_pool(compressed("quantize", "--always", "--max-loss", "0.3"), PoolFlags()).request
    assert request.name == "tiles-int8-compress"
    words = shlex.split(entrypoint(request, "/etc/job"))[4:]
    assert words == ["quantize", "tiles", "--always", "--max-loss", "0.3", "--config", "/etc/job/job.toml"]
    with pytest.raises(ConfigError, match="--max-loss 300"):
        plan_for_pool(compressed("quantize", "--always", "--max-loss", "300"), PoolFlags())


def test_more_epochs_are_the_same_compression_and_another_target_is_not() -> None:
    first = plan_for_pool(compressed(*PRUNE), PoolFlags()).request
    longer = plan_for_pool(compressed(*PRUNE, training={"epochs": 77}, cluster={"num_workers": 3}), PoolFlags()).request
    other = plan_for_pool(compressed("prune", "--target", "macs=0.6"), PoolFlags()).request
    assert first.identity == longer.identity
    assert first.name == other.name
    assert first.identity != other.identity


@pytest.mark.parametrize(
    ("options", "run", "parts"),
    [
        (("show",), "tiles", ["show", "distill, prune, quantize, chain"]),
        (("chain", "--recipe", "ours.toml"), "tiles", ["--recipe", "ours.toml"]),
        (PRUNE, "./tiles", ["compress ./tiles"]),
        ((*PRUNE, "--floor", "2.0"), "tiles", ["--floor 2"]),
        ((*PRUNE, "--threads", "0"), "tiles", ["--threads 0"]),
        ((*PRUNE, "--score-microbatches", "0"), "tiles", ["--score-microbatches 0"]),
    ],
)
def test_a_compression_that_no_cluster_can_do_is_refused(options: tuple[str, ...], run: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_for_pool(compressed(*options, run=run), PoolFlags())
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_a_running_ray_is_told_absolute_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = check(
        {
            "data": {"root": "tiles", "labels": "split.csv"},
            "storage": {"root": "out"},
            "cluster": {"address": "http://h:8265"},
        }
    )
    request = ray_request(SubmitCommand("train", job))
    (tmp_path / "job.toml").write_text(request.job_toml)
    told = read_job(tmp_path / "job.toml", {})
    assert told.data.root == str(tmp_path / "tiles")
    assert told.data.labels == "split.csv"  # relative to data.root
    assert told.storage.root == str(tmp_path / "out")
    assert told.cluster.address == "auto"
    assert request.run == f"{tmp_path}/out/runs/tiles-resnet50"


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"cluster": {"num_workers": 4}}, True),
        ({"training": {"epochs": 99}}, True),
        ({"tracker": {"kind": "wandb"}}, True),
        ({"optimizer": {"learning_rate": 0.9}}, False),
        ({"seed": 3}, False),
        ({"data": {"root": "s3://bucket/others"}, "name": "tiles-resnet50"}, False),
    ],
)
def test_what_makes_a_job_another_one(change: dict[str, Any], same: bool) -> None:
    one = plan_for_pool(SubmitCommand("train", check(WHERE)), PoolFlags()).request
    other = plan_for_pool(SubmitCommand("train", check({**WHERE, **change})), PoolFlags()).request
    assert one.name == other.name
    assert (one.identity == other.identity) == same
    assert one.submission != other.submission


def test_an_export_follows_the_training_in_one_job(tmp_path: Path) -> None:
    job = check(WHERE | {"name": "tiles"})
    alone = plan_for_pool(SubmitCommand("train", job), PoolFlags())
    both = plan_for_pool(SubmitCommand("train", job, options=("--formats", "onnx"), then="export"), PoolFlags())
    run = "s3://bucket/out/runs/tiles"
    assert both.request.then == ("export", run, "--formats", "onnx")
    words = shlex.split(entrypoint(both.request, "/etc/job"))
    config = ["--config", "/etc/job/job.toml"]
    assert words[3:] == ["train", *config, "--then", "export", run, "--formats", "onnx", *config]
    # The job's file serves both commands.
    (tmp_path / "job.toml").write_text(both.request.job_toml)
    assert read_job_and_overrides(tmp_path / "job.toml", {}, of_export)[1]["storage"]["root"] == "s3://bucket/out"
    # It is the same job, which asks for more.
    assert both.request.identity == alone.request.identity
    assert both.request.content != alone.request.content
    sizes, small = both.placement.sizes, alone.placement.sizes
    assert (sizes.head_cpus, sizes.head_memory_mib) > (small.head_cpus, small.head_memory_mib)
    assert (sizes.pods, sizes.gpus, sizes.memory_mib) == (small.pods, small.gpus, small.memory_mib)


def test_an_export_follows_one_run() -> None:
    folds = {**WHERE, "data": {"root": "s3://bucket/tiles", "folds": 5}}
    with pytest.raises(ConfigError, check=lambda error: complains(error, "data.folds", 5, remedy=("name", "remove"))):
        SubmitCommand("train", check(folds), then="export")
    folds["data"]["fold"] = 0
    assert plan_for_pool(SubmitCommand("train", check(folds), then="export"), PoolFlags()).request.then


def test_what_compress_changes_of_the_run_reaches_the_pods(tmp_path: Path) -> None:
    changes = {
        **WHERE,
        "model": {"widths": "64 64:16,16 128:32,32 256:128,64 512:512,512"},
        "distillation": {"temperature": 3.0},
        "training": {"microbatch_size": 48},
        "cluster": {"num_workers": 2, "use_gpu": False},
    }
    request = plan_for_pool(on_compressed("prune", "whole", ("--target", "macs=0.5"), changes), PoolFlags()).request
    (tmp_path / "job.toml").write_text(request.job_toml)
    told = read_changes(tmp_path / "job.toml", {})
    assert {name: told[name] for name in ("model", "distillation", "training")} == {
        name: changes[name] for name in ("model", "distillation", "training")
    }
    assert told["cluster"]["num_workers"] == 2
    assert request.arguments == ("prune", "whole", "--target", "macs=0.5")


@pytest.mark.parametrize(
    ("verb", "options", "key"),
    [
        ("prune", ("--target", "macs=2"), "--target"),
        ("prune", ("--target", "macs=0.5", "--rounds", "99"), "--rounds"),
        ("distill", ("--max-loss", "-3.0"), "--max-loss"),
        ("chain", ("--recipe", "half-latancy"), "--recipe"),
        ("chain", ("--recipe", "own.toml"), "--recipe"),
    ],
)
def test_what_compress_would_refuse_takes_no_pods(verb: str, options: tuple[str, ...], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_for_pool(on_compressed(verb, "whole", options, WHERE), PoolFlags())
    assert complains(caught, key, remedy="name" if key == "--recipe" else ())
