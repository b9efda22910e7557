import tomllib
from pathlib import Path
from typing import Any

import pytest

from ray_jobs.cli.app import main
from ray_jobs.cli.flag_names import named_as_flags
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import dotted_fields, print_config
from ray_jobs.job.toml_codec import toml_value

FIELDS = list(dotted_fields())


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code = main(["train", "--print-config", *arguments])
    captured = capsys.readouterr()
    assert (code, captured.err) == (0, "")
    return tomllib.loads(captured.out)


def test_every_key_of_a_job_is_a_flag_with_its_description_and_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "600")  # no line breaks within a description
    main(["train", "--help"])
    lines = capsys.readouterr().out.splitlines()
    for name, _, field in FIELDS:
        (line,) = [each for each in lines if each.startswith(f"│ --{name.replace('_', '-')} ")]
        default = "unset" if field.default is None else toml_value(field.default)
        assert " ".join((field.description or "?").split()) in line
        assert f"Default: {default}" in line


@pytest.mark.parametrize(
    ("arguments", "section", "key", "value"),
    [
        (["--data.root", "x y"], "data", "root", "x y"),
        (["--data.root=x"], "data", "root", "x"),
        (["--data.root", ""], "data", "root", ""),
        (["--optimizer.learning-rate", "5e-2"], "optimizer", "learning_rate", 0.05),
        (["--optimizer.learning_rate", "5e-2"], "optimizer", "learning_rate", 0.05),
        (["--training.global-batch-size", "128"], "training", "global_batch_size", 128),
        (["--optimizer.nesterov"], "optimizer", "nesterov", True),
        (["--optimizer.no-nesterov"], "optimizer", "nesterov", False),
        (["--optimizer.nesterov=false"], "optimizer", "nesterov", False),
        (["--cluster.no-use-gpu"], "cluster", "use_gpu", False),
        (["--data.mean", "0.1", "0", "-1"], "data", "mean", [0.1, 0.0, -1.0]),
        (["--augmentation.horizontal-flip", "0"], "augmentation", "horizontal_flip", 0.0),
        (["--model.weights", "none"], "model", "weights", "none"),
        (["--checkpoint.every-minutes", "none"], "checkpoint", "every_minutes", "none"),
        (["--schedule.epochs", "3"], "schedule", "epochs", 3),
    ],
    ids=lambda value: ascii(value) if isinstance(value, list) else "",
)
def test_a_flag_sets_its_key(
    capsys: pytest.CaptureFixture[str], arguments: list[str], section: str, key: str, value: object
):
    found = printed(capsys, *arguments)[section][key]
    assert (type(found), found) == (type(value), value)


def test_only_what_is_given_is_changed(capsys: pytest.CaptureFixture[str]):
    default = printed(capsys)
    changed = printed(capsys, "--seed", "3")
    assert changed.pop("seed") == 3
    assert default.pop("seed") == 0
    assert changed == default


def test_none_unsets_what_a_file_sets(capsys: pytest.CaptureFixture[str], tmp_path: Any):
    (tmp_path / "job.toml").write_text('[cluster]\naddress = "auto"\nlocal_cpus = 3\n')
    arguments = ["--config", str(tmp_path / "job.toml"), "--cluster.address", "none", "--cluster.local-cpus", "none"]
    assert not {"address", "local_cpus"} & printed(capsys, *arguments)["cluster"].keys()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--training.epochs", "many"], "error: --training.epochs='many': input should be a valid integer"),
        (["--training.epochs", "0"], "--training.epochs=0: input should be greater than or equal to 1"),
        (["--model.arch", "resnet19"], "--model.arch='resnet19': input should be 'resnet18', "),
        (["--data.mean", "a", "0", "0"], "--data.mean='a': input should be a valid number"),
        (["--data.root", "\udc80"], "--data.root='\\udc80': is not UTF-8"),
        (["--optimizer.eps", "nan"], "--optimizer.eps=nan: must be finite"),
        (["--optimizer.learning-rate", "-1"], "--optimizer.learning-rate=-1.0: input should be greater than 0"),
        (["--optimizer.learning_rate=-1"], "--optimizer.learning-rate=-1.0: input should be greater than 0"),
        (["--seed", "x"], "--seed='x': input should be a valid integer"),
        (["--training.microbatch-size", "48"], "--training.microbatch-size=48 does not divide training.global_batch"),
        (["--training.epoch", "3"], "--training.epoch: unknown flag; did you mean --training.epochs?"),
        (["--learning-rate=1"], "--learning-rate: unknown flag; did you mean --optimizer.learning-rate?"),
        (["--lr", "1"], "--lr: unknown flag; did you mean --optimizer.learning-rate?"),
        (["--root", "x"], "did you mean --data.root or --storage.root?"),
        (["--qqqqqq"], "--qqqqqq: unknown flag; see --help"),
        (["--seed"], "--seed requires an argument"),
        (["--seed", "1", "--seed", "2"], "--seed specified multiple times"),
        (["extra", "more"], "more"),
        (["--config", "absent.toml"], "--config absent.toml cannot be read"),
    ],
    ids=lambda value: ascii(value) if isinstance(value, list) else "",
)
def test_a_wrong_flag_is_wrong_usage_and_says_how_it_is_right(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
):
    code = main(["train", "--print-config", *arguments])
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert captured.err.startswith("error: ")
    assert said in captured.err
    assert "Traceback" not in captured.err


def test_evaluate_takes_only_what_does_not_change_the_run(capsys: pytest.CaptureFixture[str]):
    main(["evaluate", "--help"])
    shown = capsys.readouterr().out
    assert "--cluster.num-workers" in shown
    assert "--data.root" in shown
    assert "--optimizer" not in shown
    assert main(["evaluate", "a-run", "--data.image-size", "64"]) == 2
    assert "--data.image-size: unknown flag" in capsys.readouterr().err


def test_print_config_of_the_default_is_the_default(capsys: pytest.CaptureFixture[str]):
    assert main(["train", "--print-config"]) == 0
    assert capsys.readouterr().out == print_config(JobConfig())


@pytest.mark.parametrize("command", ["train", "tune", "submit train", "submit tune"])
def test_the_first_argument_is_the_folder_of_images(capsys: pytest.CaptureFixture[str], command: str):
    words = command.split()
    assert main([*words, "/absent/images", "--storage.root", "/storage/outputs"]) in (2, 3)
    assert "/absent/images" in capsys.readouterr().err
    assert main([*words, "one", "--data.root", "two"]) == 2
    said = capsys.readouterr().err
    assert said == "error: one and --data.root two name two folders of images; give one of them\n"


def test_the_first_argument_goes_before_the_file_and_may_be_repeated_by_the_flag(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    file = tmp_path / "job.toml"
    file.write_text('[data]\nroot = "old"\nimage_size = 96\n')
    assert printed(capsys, "new", "--config", str(file))["data"]["root"] == "new"
    found = printed(capsys, "new/", "--data.root", "new", "--config", str(file))["data"]
    assert (found["root"], found["image_size"]) == ("new/", 96)


def test_an_error_of_a_file_names_the_file_and_the_key(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    file = tmp_path / "job.toml"
    file.write_text("[optimizer]\nlearning_rate = -1\n[data]\nmean = [1, 'x', 3]\n[training]\nepoch = 3\n")
    for command in (["train", "--print-config"], ["evaluate", "run"], ["tune", "--print-search"]):
        flag = () if command[0] == "evaluate" else ("--training.global-batch-size", "0")
        assert main([*command, "--config", str(file), *flag]) == 2
        lines = [line.removeprefix("error:").strip() for line in capsys.readouterr().err.splitlines()]
        assert sorted(line.partition(": ")[2][:33] for line in lines if line.startswith(f"{file}: ")) == [
            "data.mean.1='x': input should be ",
            "optimizer.learning_rate=-1: input",
            "training.epoch: unknown key; did ",
        ]
        if flag:
            assert any(line.startswith("--training.global-batch-size=0: ") for line in lines)
    assert main(["train", "--print-config", "--config", str(file), "--optimizer.learning-rate", "-2"]) == 2
    assert "error: --optimizer.learning-rate=-2.0: " in capsys.readouterr().err.replace("       ", "error: ")


def test_a_flag_is_named_wherever_an_error_comes_from(capsys: pytest.CaptureFixture[str]):
    assert main(["train", "--data.root", "/absent", "--model.arch", "resnet18"]) == 3
    assert capsys.readouterr().err.startswith("error: --data.root=/absent does not exist; ")
    assert main(["train", "/absent", "--cluster.local-cpus", "2", "--cluster.num-workers", "9"]) == 2
    said = capsys.readouterr().err
    assert "--cluster.num-workers=9" in said
    assert "cluster.num_workers" not in said


@pytest.mark.parametrize(
    ("tokens", "text", "words"),
    [
        (["--data.val-fraction", "2"], "data.val_fraction=2: too large", "--data.val-fraction=2: too large"),
        (["--val-fraction=2"], "data.val_fraction=2: too large", "--val-fraction=2: too large"),
        (["--trials", "0"], "search.trials=0: too few", "--trials=0: too few"),
        (["--seed", "1"], "seed=1: odd\nseed=1: odd", "--seed=1: odd\n--seed=1: odd"),
        (["--seed", "1"], "the seed=1 of x/seed=1", "the seed=1 of x/seed=1"),
        (["--data.root", "a"], "other_data.root=a, s3://b/data.root=a", "other_data.root=a, s3://b/data.root=a"),
        (["train", "data.root"], "data.root=a", "data.root=a"),
    ],
)
def test_only_keys_that_were_given_as_flags_are_named_so(tokens: list[str], text: str, words: str):
    assert named_as_flags(tokens)(text) == words
