"""`resnet-dist data split`, through the command line, on real files."""

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ray_jobs.cli.app import main
from ray_jobs.data.prepare import prepare_data
from ray_jobs.job.toml import check

CLASSES = ("bent", "good")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 images of each class, four of each of five parts; in one part the numbers are spread."""
    root = tmp_path / "parts"
    for label, name in enumerate(CLASSES):
        for number in range(20):
            path = root / name / f"part{number // 4}-{100 * (number // 4) + number % 4:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), 40 * label + number, np.uint8)).save(path)
    return root


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def whole(rows: list[dict[str, str]], column: str) -> bool:
    of_group: dict[str, set[str]] = {}
    for row in rows:
        of_group.setdefault(row["group"], set()).add(row[column])
    return all(len(found) == 1 for found in of_group.values())


@pytest.mark.parametrize("how", [["--group-regex", r"(\w+/part\d)"], ["--group-gap", "1"]])
def test_groups_stay_whole_and_the_file_is_used_as_it_is(
    folder: Path, tmp_path: Path, how: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "split.csv"
    command = ["data", "split", str(folder), "--output", str(output), *how, "--seed", "3", "--folds", "3"]
    fractions = ["--val-fraction", "0.2", "--test-fraction", "0.2"]
    assert main([*command, *fractions]) == 0
    assert "24 train, 8 val, 8 test; 10 groups, 0 images alone; 3 folds" in capsys.readouterr().out
    rows = read(output)
    assert list(rows[0]) == ["path", "label", "split", "group", "fold"]
    assert len(rows) == 40
    assert len({row["group"] for row in rows}) == 10
    assert whole(rows, "split")
    assert whole(rows, "fold")
    assert all((row["fold"] == "") == (row["split"] == "test") for row in rows)
    assert Counter((row["label"], row["split"]) for row in rows)["bent", "val"] == 4

    text = output.read_bytes()
    assert main([*command, *fractions, "--overwrite"]) == 0
    assert output.read_bytes() == text, "a split is a function of seed and paths"

    settings = {"root": str(folder), "labels": str(output), "folds": 3, "cache_dir": str(tmp_path / "cache")}
    # Another seed: the splits and the folds are the file's.
    stored = {row.sample_id: row for row in prepare_data(check({"seed": 4, "data": settings})).split_rows()}
    for row in rows:
        found = stored[row["path"]]
        assert (found.label, found.split, found.group) == (row["label"], row["split"], row["group"])
        assert ("" if found.fold is None else str(found.fold)) == row["fold"]


def test_names_that_are_formulas_are_none_in_the_file_and_come_back(folder: Path, tmp_path: Path) -> None:
    (folder / "bent").rename(folder / "=1+1")
    (folder / "=1+1" / "part0-0000.png").rename(folder / "=1+1" / "-x.png")
    output = tmp_path / "split.csv"
    assert main(["data", "split", str(folder), "--output", str(output)]) == 0
    rows = read(output)
    assert {row["label"] for row in rows} == {"'=1+1", "good"}
    assert {"'=1+1/-x.png", "good/part0-0000.png"} <= {row["path"] for row in rows}

    settings = {"root": str(folder), "labels": str(output), "cache_dir": str(tmp_path / "cache")}
    stored = {row.sample_id: row for row in prepare_data(check({"data": settings})).split_rows()}
    assert stored["=1+1/-x.png"].label == "=1+1"
    assert {row.label for row in stored.values()} == {"=1+1", "good"}


def test_without_groups_classes_are_shared_out_exactly(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "split.csv"
    assert main(["data", "split", str(folder), "--output", str(output)]) == 0
    rows = read(output)
    assert Counter((row["label"], row["split"]) for row in rows) == {
        (name, split): count for name in CLASSES for split, count in (("train", 14), ("val", 3), ("test", 3))
    }
    assert {(row["group"], row["fold"]) for row in rows} == {("", "")}


def test_a_column_of_a_labels_file_names_groups(folder: Path, tmp_path: Path) -> None:
    labels, output = tmp_path / "labels.csv", tmp_path / "split.csv"
    lines = [f"{path.relative_to(folder)},{path.parent.name},{path.name[:5]}" for path in sorted(folder.glob("*/*"))]
    labels.write_text("\n".join(["path,label,serial", *lines]))
    command = ["data", "split", str(folder), "--labels", str(labels), "--output", str(output)]
    assert main([*command, "--group-column", "serial"]) == 0
    rows = read(output)
    assert {row["group"] for row in rows} == {f"part{number}" for number in range(5)}
    assert whole(rows, "split")


def test_splits_that_are_given_stay(folder: Path, tmp_path: Path) -> None:
    root, output = tmp_path / "split", tmp_path / "split.csv"
    root.mkdir()
    folder.rename(root / "train")
    for name in CLASSES:
        path = root / "test" / name / "9999.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((8, 8), 200, np.uint8)).save(path)
    assert main(["data", "split", str(root), "--output", str(output), "--group-gap", "1"]) == 0
    rows = read(output)
    assert {row["path"] for row in rows if row["split"] == "test"} == {f"test/{name}/9999.png" for name in CLASSES}
    assert Counter(row["split"] for row in rows)["val"] == 8


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--group-regex", "part(["], 2,
         "--group-regex 'part([' is no regular expression: unterminated character set at position 5"),
        (["--group-regex", "x", "--group-gap", "1"], 2, "--group-regex and --group-gap both say what a group is"),
        (["--group-column", "serial"], 2, "--group-column serial is a column of a labels file; name it with --labels"),
        (["--group-gap", "0"], 2, "--group-gap 0 must be at least 1"),
        (["--val-fraction", "0.5", "--test-fraction", "0.5"], 2, "leaves nothing to train on"),
        (["--folds", "1"], 2, "--folds=1"),
        (["--seed", "-1"], 2, "seed=-1"),
        (["--group-regex", "zzz"], 3, "--group-regex 'zzz' finds nothing in any of 40 sample ids"),
        (["--folds", "19"], 3, "class 'bent' has 17 images outside of test, fewer than --folds=19"),
        (["--group-regex", r"(\w+)/"], 3, "nothing was left for val of 40 images in 2 groups"),
        (["--labels", "LABELS", "--group-column", "group"], 3, "lacks column group"),
        (["--labels", "none.csv"], 3, "none.csv cannot be read"),
    ],
)  # fmt: skip
def test_wrong_usage_is_refused_and_nothing_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    output, labels = tmp_path / "split.csv", tmp_path / "labels.csv"
    labels.write_text("path,label\nbent/part0-0000.png,bent\n")
    arguments = [str(labels) if argument == "LABELS" else argument for argument in arguments]
    assert main(["data", "split", str(folder), "--output", str(output), *arguments]) == code
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_an_output_that_is_there_is_kept_unless_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "split.csv"
    output.write_text("precious")
    assert main(["data", "split", str(folder), "--output", str(output)]) == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert output.read_text() == "precious"
    assert main(["data", "split", str(folder), "--output", str(output), "--overwrite"]) == 0
    assert len(read(output)) == 40
    assert main(["data", "split", str(folder), "--output", str(tmp_path / "no" / "split.csv")]) == 2
    assert "cannot be written (No such file or directory)" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "split.csv"]


def test_a_group_across_given_splits_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "split"
    root.mkdir()
    folder.rename(root / "train")
    (root / "val/bent").mkdir(parents=True)
    (root / "train/bent/part0-0000.png").rename(root / "val/bent/part0-0000.png")
    output = tmp_path / "split.csv"
    assert main(["data", "split", str(root), "--output", str(output), "--group-gap", "1"]) == 3
    assert "group 'bent 0-3' is in split train" in capsys.readouterr().err


def test_the_flag_that_uses_the_file_is_printed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for output, flag in (("my split.csv", f"'{tmp_path / 'my split.csv'}'"), ("parts/split.csv", "split.csv")):
        assert main(["data", "split", folder.name, "--output", output]) == 0
        assert capsys.readouterr().out.endswith(f"--data.labels {flag}\n")
        labels = flag.strip("'")
        assert prepare_data(check({"data": {"root": "parts", "labels": labels, "cache_dir": str(tmp_path / "cache")}}))


def test_folds_of_a_labels_file_stay(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, torn = tmp_path / "first.csv", tmp_path / "second.csv", tmp_path / "torn.csv"
    assert main(["data", "split", str(folder), "--output", str(first), "--folds", "3", "--seed", "4"]) == 0
    again = ["data", "split", str(folder), "--labels", str(first), "--seed", "5", "--folds"]
    assert main([*again, "3", "--output", str(second)]) == 0
    assert second.read_bytes() == first.read_bytes()
    assert main([*again, "2", "--output", str(second), "--overwrite"]) == 3
    assert "has fold='2'; with --folds=2" in capsys.readouterr().err
    whole_splits = first.read_text().replace(",val,", ",train,")
    first.write_text("\n".join(line for line in whole_splits.splitlines() if ",test," not in line))
    assert main([*again, "3", "--output", str(torn), "--group-gap", "1"]) == 3
    assert "group 'bent 0-3' is in fold" in capsys.readouterr().err


def test_white_space_around_names_does_not_reach_the_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in list(folder.glob("*/*")):
        path.rename(path.with_name(path.name.replace("-", " - ")))
    output = tmp_path / "split.csv"
    command = ["data", "split", str(folder), "--output", str(output), "--overwrite"]
    assert main([*command, "--group-regex", "(.*) ?-"]) == 0
    assert {row["group"] for row in read(output)} >= {"bent/part0", "good/part4"}
    (folder / "good").rename(folder / "good ")
    assert main(command) == 3
    assert "class 'good ' begins or ends with white space" in capsys.readouterr().err


def test_help_loads_nothing_heavy() -> None:
    code = """
import json, sys
from ray_jobs.cli.app import main
main(["data", "split", "--help"])
sys.stderr.write(json.dumps([name for name in ("numpy", "torch", "ray", "pyarrow") if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--group-regex" in done.stdout
    assert json.loads(done.stderr) == []
