"""A secret in an address reaches no output: not of any command, not of any function behind one, not of any object."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cluster.errors import StorageError
from cluster.kube.jobs.states import JobObjects, view_of
from data_pipeline.config import DataConfig
from ray_jobs import api
from ray_jobs.bundles.lookup import local_bundle
from ray_jobs.cli.app import main
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check, print_config, read_job_text
from ray_jobs.job.toml_codec import toml_value
from ray_jobs.job.tracker import TrackerConfig
from ray_jobs.run.directory import RunDirectory
from ray_jobs.search.space import Space
from ray_jobs.search.toml import print_search, read_search, read_search_text
from ray_jobs.submission.command import PoolFlags, SubmitCommand
from resnet_dist.model.config import ModelConfig
from tests.laws import examples

FORMS = (
    "s3://AKIAEXAMPLE:{}@bucket/folder", "s3:/AKIAEXAMPLE:{}@bucket", "http://me:{}@host:8265", "abfs://c:{}@a/x",
    "postgresql://me:{}@host/db", "s3://bucket/x?secret_key={}&scheme=http", "s3://bucket/x?region=eu&access_key={}",
    "https://a.blob.core.windows.net/x?sv=2026&sig={}", "https://host/x?token={}", "gs://bucket/x?password={}#y",
)  # fmt: skip
# "{}" in a command is the address. The rest of each is as a person would write it.
TRAIN = "--data.root s3://b/tiles --storage.root s3://b/out"
COMMANDS = (
    "train --storage.root {} --print-config", "train --storage.root={} --data.root d", "train --data.root {}",
    "train --data.labels {} --data.root d --print-config", "train --model.weights {} --print-config",
    "train --tracker.kind mlflow --tracker.uri {} --print-config", "train --cluster.address {}", "train --name {}",
    "train --model.arch {}", "train --storage.rot {}", "train --{}", "train --optimizer.learning-rate {}",
    "tune --storage.root {} --dry-run", "tune --warm-start {}", "report {}", "report x --storage.root {}",
    "evaluate {}", "evaluate x --storage.root {}", "export {}", "export x --output {}", "export x --storage.root {}",
    "benchmark {}", "benchmark x --storage.root {}", "benchmark x --run {}", "predict {} image.jpg",
    "predict x image.jpg --storage.root {}", "predict x {}", "promote {}", "promote x --storage.root {}",
    "promote --as {}", "pull {} --to there", "pull x --to there --storage.root {}", "doctor --storage.root {}",
    "doctor --cluster.address {}",
    "jobs list --cluster.address {}", "jobs wait {}", "queue show {}", "data inspect {}", "{}",
    *(f"submit train --storage.root {{}} --data.root s3://b/x {dry}" for dry in ("--dry-run", "")),
    f"submit train {TRAIN} --data.labels {{}} --dry-run", f"submit train {TRAIN} --model.weights {{}} --dry-run",
    f"submit train {TRAIN} --tracker.uri {{}} --dry-run", f"submit tune {TRAIN} --warm-start {{}} --dry-run",
    f"submit evaluate {{}} {TRAIN} --dry-run", f"submit export {{}} {TRAIN} --dry-run",
    f"submit train {TRAIN} --image {{}} --dry-run", f"submit train {TRAIN} --cluster.address {{}}", "train --config {}",
)  # fmt: skip
KEYS = ("storage.root", "data.root", "data.labels", "model.weights", "tracker.uri", "cluster.address", "name", "sed")
FILE_COMMANDS = (
    "train --config {} --print-config", "train --config {}", "submit train --config {} --dry-run",
    "submit export s3://b/out/runs/x --config {} --dry-run", "evaluate x --config {}", "doctor --config {}",
    "tune --config {} --dry-run",
)  # fmt: skip

SEPARATORS = "/@:?#&;=%+ '\"\\\n\t"
# Hypothesis draws words of our own sources, too, such as "environment", which any message may have: so each part of a
# secret ends with what no message has.
PARTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Zs", "Zl", "Zp", "Cc"], exclude_characters=SEPARATORS),
    min_size=6,
    max_size=12,
).map("{}7Qz".format)
SECRETS = st.builds(str.join, st.text(SEPARATORS, min_size=1, max_size=2), st.lists(PARTS, min_size=1, max_size=4))
SAFE = settings(max_examples=examples(1), suppress_health_check=[HealthCheck.function_scoped_fixture])

Output = Callable[[], str]


def pieces(secret: str) -> set[str]:
    """The secret, its parts as an address would be cut into, and all of them as an address or a TOML text has them.

    Parts of fewer than six characters may stand anywhere by chance.
    """
    parts = {secret, *re.split(r"[/@:?#&;=%\s]", secret)}
    parts = {each for each in parts if len(each) >= 6 and len(set(each)) > 2}
    return parts | {quote(each, safe="") for each in parts} | {toml_value(each)[1:-1] for each in parts}


@pytest.fixture
def output(capfd: pytest.CaptureFixture[str]) -> Output:
    return lambda: "".join(capfd.readouterr())


def assert_hidden(text: str, secret: str) -> None:
    assert not {each for each in pieces(secret) if each in text}, text


@SAFE
@given(st.sampled_from(COMMANDS), st.sampled_from(FORMS), SECRETS, st.booleans())
def test_no_command_repeats_a_secret(output: Output, command: str, form: str, secret: str, debug: bool) -> None:
    address = form.format(secret)
    words = [word.format(address) if "{}" in word else word for word in command.split(" ") if word]
    code = main([*words, *(["--debug"] if debug else [])])
    said = output()
    assert code == 2
    assert "holds a secret" in said
    assert_hidden(said, secret)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_refuses_the_key_with_a_slash(output: Output, command: str) -> None:
    words = [word.format("s3://AKIAEXAMPLE:wJal/rXUt+nFEMI@bucket/x") for word in command.split(" ") if word]
    assert main(words) == 2
    said = output()
    assert "holds a secret, and addresses are stored and printed; give" in said
    assert "wJal" not in said
    assert "nFEMI" not in said


@SAFE
@given(st.sampled_from(FILE_COMMANDS), st.sampled_from(KEYS), st.sampled_from(FORMS), SECRETS)
def test_no_file_of_a_job_leaks_a_secret(
    tmp_path: Path, output: Output, command: str, key: str, form: str, secret: str
) -> None:
    section, _, name = key.rpartition(".")
    line = f"{name} = {toml_value(form.format(secret))}"
    (tmp_path / "job.toml").write_text(f"[{section}]\n{line}\n" if section else f"{line}\n", encoding="utf-8")
    code = main([word.format(tmp_path / "job.toml") for word in command.split(" ")])
    said = output()
    assert code == 2
    assert f"{key} holds a secret" in said
    assert_hidden(said, secret)


def functions(address: str, folder: Path) -> dict[str, Callable[[], Any]]:
    """What programs call, and what reads records that lie in storage; each with the address in another place."""
    other = check({"data": {"root": "s3://b/tiles"}, "storage": {"root": "s3://b/out"}})
    by_copy = other.model_copy(update={"data": DataConfig(root=address)})
    return {
        "a job from Python": lambda: JobConfig(data=DataConfig(root=address)),
        "a tracker from Python": lambda: JobConfig(tracker=TrackerConfig(kind="mlflow", uri=address)),
        "a tracker alone": lambda: TrackerConfig(kind="mlflow", uri=address),
        "a copy of a job": lambda: api.job_objects(SubmitCommand("train", by_copy), PoolFlags(), server=False),
        "a printed copy": lambda: print_config(by_copy),
        "a submitted copy of the network": lambda: SubmitCommand(
            "train", other.model_copy(update={"model": ModelConfig(weights=address)})
        ),
        "an option": lambda: SubmitCommand("evaluate", other, run="x", options=("--checkpoint", address)),
        "an override": lambda: SubmitCommand("export", other, run="x", overrides={"data": {"root": address}}),
        "a warm start": lambda: SubmitCommand("tune", other, search=read_search(None, {}), warm_start=address),
        "a searched value": lambda: print_search(
            read_search(None, {})[0], Space.of({"model.weights": {"categorical": ["imagenet", address]}})
        ),
        "a submitted run": lambda: api.job_objects(
            SubmitCommand("export", other, run=address), PoolFlags(), server=False
        ),
        "a tree": lambda: check({"storage": {"root": address}, "optimizer": {"learning_rate": "x"}}),
        "a list": lambda: check({"tracker": {"tags": ["a", address]}}),
        "a key": lambda: check({"data": {address: 1}}),
        "a stored job": lambda: read_job_text(f"[storage]\nroot = {toml_value(address)}\n", "config.toml"),
        "a search": lambda: read_search_text(f"[space]\n\"model.weights\" = [{toml_value(address)}]\n", "search.toml"),
        "a run": lambda: RunDirectory.find(address, "outputs"),
        "a storage root": lambda: RunDirectory.named(address, "x"),
        "a bundle": lambda: local_bundle(address),
        "a bundle by name": lambda: local_bundle("x", address),
        "an export": lambda: api.export(address),
        "a benchmark": lambda: api.benchmark(address),
        "a promotion": lambda: api.promote(address),
        "a pull": lambda: api.pull(address, folder / "there"),
        "a report": lambda: api.report(address),
        "an evaluation": lambda: api.evaluate(address),
    }  # fmt: skip


NAMES = tuple(functions("", Path()))


@SAFE
@given(st.sampled_from(NAMES), st.sampled_from(FORMS), SECRETS)
def test_no_function_repeats_a_secret(tmp_path: Path, output: Output, name: str, form: str, secret: str) -> None:
    with pytest.raises((ConfigError, StorageError, ValidationError)) as refused:
        functions(form.format(secret), tmp_path)[name]()
    assert "holds a secret" in str(refused.value)
    assert_hidden(f"{refused.value}{output()}", secret)
    assert list(tmp_path.iterdir()) == []


@SAFE
@given(st.sampled_from(FORMS), SECRETS)
def test_an_annotation_of_somebody_else_is_shown_without_its_secret(form: str, secret: str) -> None:
    job = {"metadata": {"name": "tiles", "annotations": {"resnet-dist/run": form.format(secret)}}}
    view = view_of(JobObjects(job))
    assert_hidden(yaml.safe_dump(vars(view), allow_unicode=True), secret)
