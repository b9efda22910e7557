"""`resnet-dist predict` on real files: its whole program in this process, or in one of its own where that matters."""

import csv
import io
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from model_signing import signing

from data_pipeline.listing.samples import relative_path_of
from ray_jobs.__main__ import main
from resnet_dist.runtime.bundle import MANIFEST, SIGNATURE, seal

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "ray_jobs", "predict"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


Predict = Callable[..., subprocess.CompletedProcess[bytes]]
"""Arguments of the command, the working directory `cwd`, and `given` on stdin -> exit code, stdout and stderr."""


def in_own_process(*arguments: str | Path, cwd: Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, cwd=cwd, input=given, env=ENVIRONMENT, timeout=200)


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Predict:
    """The command in this process, which starts in a fraction of the time."""

    def run(*arguments: str | Path, cwd: Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = ["resnet-dist", "predict", *map(str, arguments)]
        with monkeypatch.context() as patch:
            patch.chdir(cwd)
            patch.setattr(sys, "argv", command)
            # Where it is set, the program sets no variables of this process, which goes on with other tests.
            patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
            capfdbinary.readouterr()
            code = main()
        return subprocess.CompletedProcess(command, code, *capfdbinary.readouterr())

    return run


def rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, image_files: Any) -> Path:
    """12 photos in two folders, one below the other, and files that are none."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(12):
        path = folder / "line" / ("b" if number % 2 else "a/deep") / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_files.encode(image_files.photo(48, 40, seed=number), "PNG"))
    (folder / "line" / "notes.txt").write_text("no image")
    (folder / "line" / ".hidden.png").write_bytes(b"not looked at")
    return folder


def test_a_folder_is_answered_in_order_with_a_summary(bundle_folder: Path, photos: Path):
    done = in_own_process(bundle_folder, "line", cwd=photos)
    assert done.returncode == 0
    found = rows(done.stdout)
    assert [row["path"] for row in found] == [f"line/a/deep/{n:02d}.png" for n in range(0, 12, 2)] + [
        f"line/b/{n:02d}.png" for n in range(1, 12, 2)
    ]
    assert {row["label"] for row in found} == {"", "bent", "good", "scratched"}
    assert all(0 < float(row["confidence"]) <= 1 and row["error"] == "" for row in found)
    assert all((row["label"] == "") == (float(row["confidence"]) < 0.45) for row in found)
    said = done.stderr.decode().splitlines()
    assert said[0].startswith("12 images in ")
    assert said[0].endswith(f" images/s): {sum(row['label'] == '' for row in found)} rejected, 0 unreadable")
    for label in ("bent", "good", "scratched"):
        assert f"{label} {sum(row['label'] == label for row in found)}" in said[1]


def test_a_run_is_found_by_its_name_and_a_uri_is_not(predict: Predict, bundle_copy: Path, photos: Path, tmp_path: Path):
    run = tmp_path / "outputs" / "runs" / "casting"
    run.mkdir(parents=True)
    bundle_copy.rename(run / "bundle")
    by_name = predict("casting", photos, cwd=tmp_path)
    assert (by_name.returncode, len(rows(by_name.stdout))) == (0, 12)
    assert predict("casting", photos, "--storage.root", "outputs", cwd=tmp_path).stdout == by_name.stdout
    absent = predict("other", photos, cwd=tmp_path)
    assert absent.returncode == 3
    assert b"outputs/runs/other has no bundle" in absent.stderr
    uri = predict("s3://bucket/bundle", photos, cwd=tmp_path)
    assert uri.returncode == 2
    assert b"resnet-dist pull" in uri.stderr


def test_patterns_files_and_lists_name_images(predict: Predict, bundle_folder: Path, photos: Path):
    whole = {row["path"]: row for row in rows(predict(bundle_folder, "line", cwd=photos).stdout)}

    def answered(*paths: str, given: bytes = b"") -> list[dict[str, str]]:
        done = predict(bundle_folder, *paths, cwd=photos, given=given)
        assert done.returncode == 0
        return rows(done.stdout)

    assert answered("line/**/*.png") == list(whole.values())
    assert answered("line/b/0[13].png", "line/a/deep/04.png") == [
        whole[f"line/{name}.png"] for name in ("b/01", "b/03", "a/deep/04")
    ]
    listed = b"line/b/03.png\nline/a/deep/02.png\r\n\nline/b/03.png"
    assert answered("-", given=listed) == [whole[f"line/{name}.png"] for name in ("b/03", "a/deep/02", "b/03")]


def test_names_of_any_bytes_come_back_as_they_were(predict: Predict, bundle_folder: Path, photos: Path, tmp_path: Path):
    data = (photos / "line" / "b" / "01.png").read_bytes()
    names = [b"caf\xe9.png", "Prüf teil.png".encode(), b'quo"te,comma.png', b"\x1b[31mred.png", b"new\nline.png"]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(data)
    done = predict(bundle_folder, ".", cwd=tmp_path)
    assert {relative_path_of(row["path"]) for row in rows(done.stdout)} == {b"./" + name for name in names}
    lines = predict(bundle_folder, "-", "--output-format", "jsonl", cwd=tmp_path, given=b"\n".join(names[:-1]))
    assert [relative_path_of(json.loads(line)["path"]) for line in lines.stdout.splitlines()] == names[:-1]
    table = predict(bundle_folder, ".", "--output-format", "table", cwd=tmp_path).stdout
    assert len(table.splitlines()) == 1 + len(names)
    assert b"\x1b" not in table
    assert rb"\x1b[31mred.png" in table


def test_unreadable_files_between_others_are_rows_and_lines_and_stop_nothing(
    predict: Predict, bundle_folder: Path, photos: Path, image_files: Any, tmp_path: Path
):
    whole = (photos / "line" / "b" / "01.png").read_bytes()
    for number in range(60):
        (tmp_path / f"{number:02d}.png").write_bytes(whole)
    (tmp_path / "30.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "31.png").write_bytes(image_files.encode(np.zeros((101, 100, 3), np.uint8), "PNG"))
    done = predict(bundle_folder, ".", cwd=tmp_path)
    assert done.returncode == 0
    found = rows(done.stdout)
    assert len(found) == 60
    assert [row["path"] for row in found if row["error"]] == ["./30.png", "./31.png"]
    assert (found[30]["label"], found[30]["confidence"]) == ("", "")
    assert found[31]["error"] == "100x101 pixels are more than data.max_pixels=10000"
    said = done.stderr.decode().splitlines()
    assert [line for line in said if line.startswith("unreadable: ")] == [
        f"unreadable: ./{number}.png: {found[number]['error']}" for number in (30, 31)
    ]
    assert said[2].startswith("60 images in ")
    assert said[2].endswith("2 unreadable")

    strict = predict(bundle_folder, ".", "--fail-on-unreadable", cwd=tmp_path)
    assert (strict.returncode, strict.stdout) == (3, done.stdout)
    assert b"2 of 60 images could not be answered" in strict.stderr


def test_many_unreadable_files_are_few_lines_and_nothing_readable_ends_with_3(
    predict: Predict, bundle_folder: Path, tmp_path: Path
):
    for number in range(50):
        (tmp_path / f"{number}.jpg").write_bytes(b"")
    done = predict(bundle_folder, tmp_path, "--output", "out.csv", cwd=tmp_path)
    assert done.returncode == 3
    assert [row["error"] for row in rows((tmp_path / "out.csv").read_bytes())] == ["empty file"] * 50
    assert len([line for line in done.stderr.splitlines() if line.startswith(b"unreadable: ")]) == 20
    assert b"none of 50 images could be answered" in done.stderr
    (tmp_path / "empty").mkdir()
    empty = predict(bundle_folder, "empty", cwd=tmp_path)
    assert empty.returncode == 3
    assert b"there is no image" in empty.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_unreadable(predict: Predict, bundle_folder: Path, photos: Path, tmp_path: Path):
    whole = (photos / "line" / "b" / "01.png").read_bytes()
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(whole)
    (tmp_path / "a.png").chmod(0)
    done = predict(bundle_folder, ".", cwd=tmp_path)
    assert (done.returncode, rows(done.stdout)[0]["error"]) == (0, "cannot be read: Permission denied")


def test_jsonl_and_table_say_what_csv_says(predict: Predict, bundle_folder: Path, photos: Path):
    by_csv = rows(predict(bundle_folder, "line", "--probabilities", cwd=photos).stdout)
    names = ("bent", "good", "scratched")
    assert list(by_csv[0]) == ["path", "label", "confidence", "error", *(f"probability_{name}" for name in names)]
    by_lines = predict(bundle_folder, "line", "--probabilities", "--output-format", "jsonl", cwd=photos).stdout
    for row, line in zip(by_csv, by_lines.splitlines(), strict=True):
        value = json.loads(line)
        assert list(value) == ["path", "label", "confidence", "error", "probabilities"]
        assert (value["path"], value["label"] or "", value["error"]) == (row["path"], row["label"], None)
        assert value["confidence"] == pytest.approx(float(row["confidence"]), abs=1e-6)
        assert sum(value["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert all(float(row[f"probability_{name}"]) == value["probabilities"][name] for name in names)
    table = predict(bundle_folder, "line", "--output-format", "table", cwd=photos).stdout.decode().splitlines()
    assert table[0].split() == ["label", "confidence", "path"]
    assert [line.split()[0] for line in table[1:]] == [row["label"] or "(rejected)" for row in by_csv]


def test_a_terminal_gets_a_table_of_few_images(bundle_folder: Path, photos: Path):
    ours, theirs = pty.openpty()
    command = [*COMMAND, str(bundle_folder), "line"]
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.DEVNULL, cwd=photos, env=ENVIRONMENT, timeout=200)
    os.close(theirs)
    with open(ours, "rb", buffering=0) as terminal:  # noqa: PTH123 - a descriptor
        shown = terminal.read(100)
    assert (done.returncode, shown.split()[:3]) == (0, [b"label", b"confidence", b"path"])


def test_formats_agree_and_an_unknown_one_is_refused(predict: Predict, bundle_folder: Path, photos: Path):
    one, other = (
        rows(predict(bundle_folder, "line", "--format", name, "--threads", "1", "--batch-size", "5", cwd=photos).stdout)
        for name in ("onnx", "openvino")
    )
    for row, same in zip(one, other, strict=True):
        assert row["label"] == same["label"]
        assert float(row["confidence"]) == pytest.approx(float(same["confidence"]), abs=1e-3)
    done = predict(bundle_folder, "line", "--format", "tflite", cwd=photos)
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"has no format 'tflite'; it has onnx, openvino" in done.stderr


def test_an_output_file_is_whole_or_as_it_was(predict: Predict, bundle_copy: Path, photos: Path, tmp_path: Path):
    out = tmp_path / "out.csv"
    out.write_text("before")
    damaged = bundle_copy / "onnx" / "model.onnx"
    whole = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused = predict(bundle_copy, photos, "--output", out, cwd=tmp_path)
    assert (refused.returncode, out.read_text()) == (3, "before")
    assert b"model.onnx was changed" in refused.stderr
    damaged.write_bytes(whole)
    # The list ends in a line that is too long: rows were written by then, and the file must not show them.
    long = os.fsencode(photos) + b"/line/b/01.png\n" + b"x" * 70000
    broken = predict(bundle_copy, "-", "--output", out, "--batch-size", "1", cwd=tmp_path, given=long)
    assert (broken.returncode, out.read_text()) == (3, "before")
    done = predict(bundle_copy, photos, "--output", out, cwd=tmp_path)
    assert (done.returncode, done.stdout, len(rows(out.read_bytes()))) == (0, b"", 12)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "out.csv"]


def _has_a_nameless_file(pid: int) -> bool:
    with suppress(FileNotFoundError):  # it was closed meanwhile
        opened = [path for path in Path(f"/proc/{pid}/fd").iterdir() if path.name not in {"0", "1", "2"}]
        return any("deleted" in str(path.readlink()) for path in opened)
    return False


def test_sigterm_leaves_no_part_of_an_output(bundle_folder: Path, photos: Path, tmp_path: Path):
    process = subprocess.Popen(
        [*COMMAND, bundle_folder, "-", "--output", tmp_path / "out.csv", "--batch-size", "1"],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=ENVIRONMENT,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write((os.fsencode(photos) + b"/line/b/01.png\n") * 3)
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not _has_a_nameless_file(process.pid):  # it answers, and waits for more of the list
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said.decode()) == (
        143,
        "error: ended from outside (SIGTERM); the same command resumes\n",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_outputs_that_are_no_files_are_left_what_they_are(
    predict: Predict, bundle_folder: Path, photos: Path, tmp_path: Path
):
    (tmp_path / "real.csv").write_text("before")
    (tmp_path / "link.csv").symlink_to("real.csv")
    assert predict(bundle_folder, photos, "--output", "link.csv", cwd=tmp_path).returncode == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert len(rows((tmp_path / "real.csv").read_bytes())) == 12
    assert predict(bundle_folder, photos, "--output", "/dev/null", cwd=tmp_path).returncode == 0
    assert Path("/dev/null").is_char_device()
    # A link to a pipe, which leads nowhere that could be opened.
    assert len(rows(in_own_process(bundle_folder, photos, "--output", "/dev/stdout", cwd=tmp_path).stdout)) == 12
    full = in_own_process(bundle_folder, photos, "--output", "/dev/full", cwd=tmp_path)
    assert (full.returncode, b"--output /dev/full could not be written (No space left" in full.stderr) == (3, True)
    for place, said in ((".", b"is a folder"), ("absent/out.csv", b"cannot be written")):
        done = predict(bundle_folder, photos, "--output", place, cwd=tmp_path)
        assert done.returncode == 3
        assert said in done.stderr


def test_a_reader_that_has_seen_enough_ends_it_quietly(bundle_folder: Path, photos: Path, tmp_path: Path):
    photo = os.fsencode(photos) + b"/line/b/01.png\n"
    process = subprocess.Popen(
        [*COMMAND, str(bundle_folder), "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=ENVIRONMENT,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    process.stdin.write(photo * 500)
    process.stdin.close()
    assert process.stderr is not None
    assert (process.stderr.read(), process.wait(timeout=200)) == (b"", 0)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["absent.png"], 3, b"absent.png: there is no such file or folder"),
        (["*.absent"], 3, b"*.absent: no file fits this pattern"),
        ([], 2, b"predict needs images after the bundle"),
        (["line", "--threads", "0"], 2, b"--threads 0 must be at least 1"),
        (["line", "--batch-size", "1025"], 2, b"--batch-size 1025 must lie in 1..1024"),
        (["line", "--batch-timeout-s", "0"], 2, b"--batch-timeout-s 0 must be above 0"),
        (["line", "--batch-timeout-s", "nan"], 2, b"--batch-timeout-s nan must be above 0"),
        (["line", "--probabilites"], 2, b"--probabilites: unknown flag; did you mean --probabilities?"),
        (["line", "--part-size", "5"], 2, b"--part-size 5 is for parts"),
        (["line", "--workers", "2"], 2, b"give a folder for them"),
        (["line", "--workers", "0", "--output", "x"], 2, b"--workers 0 must be at least 1"),
        (["line", "--workers", "2", "--output", "x", "--output-format", "table"], 2, b"parts are csv or jsonl"),
        (["line", "--verify-key", "absent.pem"], 3, b"absent.pem is no file"),
    ],
)
def test_wrong_usage_says_what_to_do_and_answers_nothing(
    predict: Predict, bundle_folder: Path, photos: Path, arguments: list[str], code: int, said: bytes
):
    before = sorted(photos.rglob("*"))
    done = predict(bundle_folder, *arguments, cwd=photos)
    assert (done.returncode, done.stdout) == (code, b"")
    assert done.stderr.startswith(b"error: ")
    assert said in done.stderr
    assert sorted(photos.rglob("*")) == before


@pytest.fixture
def resealed(bundle_copy: Path) -> Callable[..., Path]:
    """The bundle with other values in bundle.json, by somebody who knows how to seal it."""

    def change(**values: Any) -> Path:
        manifest = json.loads((bundle_copy / MANIFEST).read_bytes())
        del manifest["seal"]
        (bundle_copy / MANIFEST).unlink()
        (bundle_copy / MANIFEST).write_bytes(seal(manifest | values))
        return bundle_copy

    return change


def test_a_newer_bundle_says_to_upgrade(predict: Predict, resealed: Callable[..., Path], photos: Path):
    done = predict(resealed(schema=2), "line", cwd=photos)
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"has schema 2; this version reads 1: upgrade resnet-dist" in done.stderr


def test_a_signed_bundle_is_told_from_others(predict: Predict, bundle_copy: Path, photos: Path, tmp_path: Path):
    for name in ("own", "other"):
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / f"{name}.pem").write_bytes(private)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / f"{name}.pub").write_bytes(public)
    unsigned = predict(bundle_copy, photos, "--verify-key", "own.pub", cwd=tmp_path)
    assert (unsigned.returncode, unsigned.stdout) == (3, b"")
    assert b"is not signed" in unsigned.stderr
    config = signing.Config().use_elliptic_key_signer(private_key=tmp_path / "own.pem")
    config.sign(bundle_copy, bundle_copy / SIGNATURE)
    signed = predict(bundle_copy, photos, "--verify-key", "own.pub", cwd=tmp_path)
    assert (signed.returncode, len(rows(signed.stdout))) == (0, 12), signed.stderr
    relative = predict("./bundle", photos, "--verify-key", "own.pub", cwd=tmp_path)
    assert (relative.returncode, relative.stdout) == (0, signed.stdout)
    foreign = predict(bundle_copy, photos, "--verify-key", "other.pub", cwd=tmp_path)
    assert (foreign.returncode, foreign.stdout) == (3, b"")
    assert b"is not what the owner of other.pub signed" in foreign.stderr
    (bundle_copy / "more.txt").write_text("not signed")
    more = predict(bundle_copy, photos, "--verify-key", "own.pub", cwd=tmp_path)
    assert (more.returncode, more.stdout) == (3, b"")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_files(bundle_folder: Path, photos: Path, tmp_path: Path):
    def peak(copies: int) -> int:
        script = (
            "import resource, sys\n"
            "from ray_jobs.__main__ import main\n"
            f"sys.argv = ['resnet-dist', 'predict', {str(bundle_folder)!r}, '-', '--output', '/dev/null']\n"
            "assert main() == 0\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        given = (os.fsencode(photos) + b"/line/b/01.png\n") * copies
        done = subprocess.run(
            [sys.executable, "-c", script], input=given, capture_output=True, cwd=tmp_path, env=ENVIRONMENT, timeout=250
        )
        return int(done.stdout)

    assert peak(4000) < 1.15 * peak(200)
