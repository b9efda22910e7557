"""Promoting, rolling back and pulling: what is in storage, and what a machine gets of it."""

import json
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from model_signing import signing

from cluster.errors import StorageError
from cluster.storage.folder_swap import fresh_folder, put_in_place
from ray_jobs.bundles.lookup import local_bundle
from ray_jobs.bundles.promote import run_promote, run_rollback
from ray_jobs.bundles.pull import run_pull
from ray_jobs.bundles.registry import PRODUCTION
from ray_jobs.errors import ConfigError, GateError
from resnet_dist.errors import RunError
from resnet_dist.runtime.bundle import MANIFEST, SIGNATURE, Bundle
from resnet_dist.runtime.errors import BundleError
from tests.real_bundle import as_run, changed, digest_of, inconclusive, with_formats


@pytest.fixture(scope="module")
def bundle(bundle_folder: Path) -> Path:
    """The folder of a bundle with the formats onnx and openvino."""
    return bundle_folder


@pytest.fixture
def root(bundle: Path, tmp_path: Path) -> Path:
    """A storage root with the runs a and b, whose bundles differ."""
    as_run(bundle, tmp_path / "store", "a")
    as_run(changed(bundle, tmp_path / "other", name="other"), tmp_path / "store", "b")
    return tmp_path / "store"


def promoted(root: Path, name: str = "line") -> dict[str, object]:
    return json.loads((root / "bundles" / name / PRODUCTION).read_bytes())


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def damage(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"?" + data[len(data) // 2 + 1 :])


def test_a_promoted_bundle_is_named_by_its_seal_and_pointed_at(root: Path, bundle: Path):
    done = run_promote("a", "line", str(root))
    assert (done.changed, done.previous, done.digest) == (True, None, digest_of(bundle))
    folder = root / "bundles" / "line" / done.digest[:12]
    assert done.uri == str(folder)
    assert files_in(folder) == files_in(bundle)
    assert promoted(root) == {"schema": 1, "digest": done.digest, "previous": None, "run": "line"}
    again = run_promote("a", "line", str(root))
    assert (again.changed, again.previous) == (False, None)
    second = run_promote("b", "line", str(root))
    assert promoted(root)["previous"] == second.previous == done.digest
    # By default a bundle is promoted under its own name.
    assert run_promote(str(root / "runs" / "b"), None, str(root)).name == "other"


def test_a_rollback_points_at_what_was_before_and_another_one_back(root: Path):
    first, second = (run_promote(run, "line", str(root)).digest for run in ("a", "b"))
    back = run_rollback("line", str(root))
    assert (back.digest, back.previous) == (first, second)
    assert promoted(root)["digest"] == first
    assert run_rollback("line", str(root)).digest == second
    with pytest.raises(ConfigError, match="nothing is in production"):
        run_rollback("nothing", str(root))
    run_promote("a", "once", str(root))
    with pytest.raises(ConfigError, match="nothing was before"):
        run_rollback("once", str(root))


def test_a_rollback_to_a_damaged_bundle_is_refused(root: Path):
    first = run_promote("a", "line", str(root))
    second = run_promote("b", "line", str(root))
    damage(Path(first.uri) / "onnx" / "model.onnx")
    with pytest.raises(BundleError, match="was changed"):
        run_rollback("line", str(root))
    assert promoted(root)["digest"] == second.digest
    # Promoting it again repairs it.
    run_promote("a", "line", str(root))
    assert files_in(Path(first.uri)) == files_in(root / "runs" / "a" / "bundle")


@pytest.mark.parametrize("path", ["onnx/model.onnx", MANIFEST])
def test_a_damaged_bundle_is_not_promoted(root: Path, path: str):
    damage(root / "runs" / "a" / "bundle" / path)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        run_promote("a", "line", str(root))
    assert not (root / "bundles" / "line" / PRODUCTION).exists()
    assert not list(root.glob(f"bundles/line/*/{MANIFEST}"))


def test_an_inconclusive_format_is_left_out_unless_it_is_accepted(root: Path, bundle: Path, tmp_path: Path):
    as_run(inconclusive(bundle, tmp_path / "unsure", "openvino"), root, "unsure")
    first = run_promote("unsure", "line", str(root))
    assert "openvino" not in first.formats
    assert first.formats
    assert "inconclusive, top-1 falls by 0.40 points" in first.refused["openvino"]
    pulled = Bundle.open(Path(first.uri))
    pulled.verify()
    assert not (Path(first.uri) / "openvino").exists()
    assert set(pulled.files) == set(files_in(Path(first.uri))) - {MANIFEST}
    with pytest.raises(BundleError, match="no format 'openvino': it was refused, inconclusive"):
        pulled.format("openvino")
    assert not run_promote("unsure", "line", str(root)).changed
    all_of_it = run_promote("unsure", "line", str(root), accept_inconclusive=True)
    assert all_of_it.changed
    assert "openvino" in all_of_it.formats


def test_nothing_is_left_out_of_a_signed_bundle_and_something_must_be_left(root: Path, bundle: Path, tmp_path: Path):
    as_run(inconclusive(bundle, tmp_path / "signed", "openvino"), root, "signed")
    (root / "runs/signed/bundle" / SIGNATURE).write_bytes(b"a signature")
    with pytest.raises(GateError, match=r"is signed, (.|\n)*openvino: inconclusive, top-1(.|\n)*--formats"):
        run_promote("signed", "line", str(root))
    as_run(inconclusive(with_formats(bundle, tmp_path / "one", "openvino"), tmp_path / "all", "openvino"), root, "all")
    with pytest.raises(GateError, match="only formats that are inconclusive\nopenvino: inconclusive, top-1"):
        run_promote("all", "line", str(root))
    assert not (root / "bundles").exists()


def test_what_was_refused_is_said_and_a_bundle_without_formats_is_none(root: Path, bundle: Path, tmp_path: Path):
    refused = {"onnxruntime_int8": "top-1 falls by 3 points"}
    as_run(changed(bundle, tmp_path / "less", refused=refused), root, "less")
    assert run_promote("less", "line", str(root)).refused == refused
    as_run(changed(bundle, tmp_path / "none", refused=refused, formats={}), root, "none")
    with pytest.raises(GateError, match="nothing to promote\nonnxruntime_int8: top-1 falls by 3 points"):
        run_promote("none", "line", str(root))


def test_what_cannot_be_promoted_is_said(root: Path):
    (root / "runs" / "bare").mkdir()
    (root / "runs" / "bare" / "config.toml").write_text("")
    with pytest.raises(RunError, match="has no bundle; make one: resnet-dist export bare"):
        run_promote("bare", None, str(root))
    with pytest.raises(RunError, match="runs there: a, b"):
        run_promote("c", None, str(root))
    with pytest.raises(ConfigError, match="choose another with --as"):
        run_promote("a", "../up", str(root))


def test_the_last_of_several_promotions_wins_and_no_reader_sees_half_a_pointer(root: Path):
    digests = {run_promote(run, "line", str(root)).digest for run in ("a", "b")}
    done = threading.Event()
    seen, errors = set[object](), list[BaseException]()

    def read() -> None:
        while not done.is_set():
            try:
                seen.add(promoted(root)["digest"])
            except BaseException as error:
                errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    writers = [
        threading.Thread(target=lambda run=run: [run_promote(run, "line", str(root)) for _ in range(3)])
        for run in ("a", "b")
    ]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    done.set()
    reader.join()
    assert errors == []
    assert seen <= digests
    assert promoted(root)["digest"] in digests


def test_pulling_fetches_what_is_in_production_or_a_digest(root: Path, bundle: Path, tmp_path: Path):
    first = run_promote("a", "line", str(root))
    run_promote("b", "line", str(root))
    target = tmp_path / "deep" / "line"
    got = run_pull("line", target, str(root))
    assert (got.changed, got.formats) == (True, ("onnx", "openvino"))
    assert Bundle.open(target).name == "other"
    older = run_pull(f"line@{first.digest[:12]}", target, str(root))
    assert older.changed
    assert files_in(target) == files_in(bundle)
    assert list(target.parent.iterdir()) == [target]
    # The same one again is left alone.
    before = (target / MANIFEST).stat().st_ino
    assert not run_pull(f"line@{first.digest}", target, str(root)).changed
    assert (target / MANIFEST).stat().st_ino == before
    with pytest.raises(ConfigError, match="a digest is 12 to 64"):
        run_pull("line@123", target, str(root))
    with pytest.raises(BundleError, match="is no bundle"):
        run_pull(f"line@{'0' * 64}", target, str(root))


@pytest.mark.parametrize("uri", [False, True])
def test_a_runs_own_bundle_is_pulled_by_its_place(root: Path, bundle: Path, tmp_path: Path, uri: bool):
    run = root / "runs" / "a"
    place = run.as_uri() if uri else str(run)
    assert run_pull(place, tmp_path / "line", str(root)).digest == digest_of(bundle)
    inside = f"{place}/bundle"
    assert not run_pull(inside, tmp_path / "line", str(root)).changed


def test_a_damaged_pulled_bundle_is_fetched_again(root: Path, bundle: Path, tmp_path: Path):
    run_promote("a", "line", str(root))
    run_pull("line", tmp_path / "line", str(root))
    damage(tmp_path / "line" / "openvino" / "model.bin")
    assert run_pull("line", tmp_path / "line", str(root)).changed
    assert files_in(tmp_path / "line") == files_in(bundle)


@pytest.mark.parametrize("path", ["onnx/model.onnx", MANIFEST])
def test_a_bundle_that_is_damaged_in_storage_is_refused(root: Path, tmp_path: Path, path: str):
    done = run_promote("a", "line", str(root))
    run_pull("line", tmp_path / "line", str(root))
    run_promote("b", "line", str(root))
    run_rollback("line", str(root))
    damage(Path(done.uri) / path)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        run_pull("line", tmp_path / "new", str(root))
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".*"))
    (Path(done.uri) / path).unlink()
    with pytest.raises(BundleError, match="there is no"):
        run_pull("line", tmp_path / "new", str(root))


def test_nothing_but_a_bundle_is_ever_replaced(root: Path, tmp_path: Path):
    run_promote("a", "line", str(root))
    papers = tmp_path / "papers"
    papers.mkdir()
    (papers / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match=r"holds 'thesis\.tex' and no bundle"):
        run_pull("line", papers, str(root))
    assert (papers / "thesis.tex").read_text() == "years of work"
    with pytest.raises(ConfigError, match="is a link or a file"):
        run_pull("line", papers / "thesis.tex", str(root))
    (tmp_path / "link").symlink_to(papers)
    with pytest.raises(ConfigError, match="is a link or a file"):
        run_pull("line", tmp_path / "link", str(root))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert run_pull("line", empty, str(root)).changed


@pytest.mark.parametrize("has_bundle", [True, False])
def test_what_lies_beside_a_bundle_is_never_lost(root: Path, tmp_path: Path, has_bundle: bool):
    """Other programs have a bundle.json, too, and people put notes into folders."""
    first = run_promote("a", "line", str(root)).digest
    run_promote("b", "line", str(root))
    target = tmp_path / "line"
    if has_bundle:
        run_pull(f"line@{first}", target, str(root))
    else:
        target.mkdir()
        (target / MANIFEST).write_text('{"name": "a program of somebody"}')
    (target / "source").mkdir()
    (target / "source" / "thesis.tex").write_text("years of work")
    before = files_in(target)
    with pytest.raises(ConfigError, match=r"holds 'source/thesis\.tex', which is of no bundle"):
        run_pull("line", target, str(root))
    assert files_in(target) == before


def test_what_cannot_be_pulled_is_said(root: Path, tmp_path: Path):
    with pytest.raises(StorageError, match=r"no run of .* was promoted.*runs/a"):
        run_pull("a", tmp_path / "x", str(root))
    run_promote("a", "line", str(root))
    with pytest.raises(StorageError, match="names there: line"):
        run_pull("lime", tmp_path / "x", str(root))
    (root / "bundles" / "line" / PRODUCTION).write_text('{"schema": 2}')
    with pytest.raises(BundleError, match="delete it and promote a run again"):
        run_pull("line", tmp_path / "x", str(root))


def test_a_folder_is_replaced_at_once(root: Path, tmp_path: Path):
    """Whoever looks, as a line that starts at the worst moment, sees one bundle or the other."""
    digests = [run_promote(run, "line", str(root)).digest for run in ("a", "b")]
    target = tmp_path / "line"
    run_pull("line", target, str(root))
    done = threading.Event()
    seen, missing = set[str](), list[str]()

    def look() -> None:
        while not done.is_set():
            try:
                seen.add(digest_of(target))
            except OSError as error:
                missing.append(str(error))

    looking = threading.Thread(target=look)
    looking.start()
    for number in range(4):
        assert run_pull(f"line@{digests[number % 2]}", target, str(root)).changed
    done.set()
    looking.join()
    assert missing == []
    assert seen <= set(digests)


def test_what_killed_processes_left_goes_and_what_living_ones_hold_stays(tmp_path: Path):
    target = tmp_path / "line"
    left = tmp_path / ".line.part-dead"
    left.mkdir()
    (left / "model.onnx").write_bytes(b"half")
    with fresh_folder(target) as held:
        (held / "file").write_bytes(b"x")
        assert not left.exists()
        with fresh_folder(target) as other:
            (other / "file").write_bytes(b"y")
            assert held.exists()
            put_in_place(other, target)
        put_in_place(held, target)
    assert files_in(target) == {"file": b"x"}
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_takes_along_the_folders_that_were_made(tmp_path: Path):
    target = tmp_path / "a" / "b" / "line"
    with pytest.raises(IsADirectoryError), fresh_folder(target) as folder:
        folder.write_bytes(b"a folder is no file")
    assert not list(tmp_path.iterdir())


def test_a_signature_is_checked_where_a_key_is_given(bundle: Path, tmp_path: Path):
    key, public, other = (tmp_path / name for name in ("key.pem", "public.pem", "other.pem"))
    for private, half in ((key, public), (tmp_path / "k2.pem", other)):
        make = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(private)]
        if shutil.which("openssl") is None:
            pytest.skip("openssl makes the keys")
        subprocess.run(make, check=True, capture_output=True)
        subprocess.run(["openssl", "ec", "-in", private, "-pubout", "-out", half], check=True, capture_output=True)
    root = tmp_path / "store"
    own = as_run(with_formats(bundle, tmp_path / "bundle", "onnx"), root, "a") / "bundle"
    signing.Config().use_elliptic_key_signer(private_key=key).sign(own, own / SIGNATURE)
    done = run_promote("a", "line", str(root))
    assert run_pull("line", tmp_path / "line", str(root), public).is_signed
    assert (tmp_path / "line" / SIGNATURE).is_file()
    with pytest.raises(BundleError, match="is not what the owner of"):
        run_pull("line", tmp_path / "new", str(root), other)
    assert not (tmp_path / "new").exists()
    (Path(done.uri) / SIGNATURE).unlink()
    with pytest.raises(BundleError, match="is not signed"):
        run_pull("line", tmp_path / "new", str(root), public)
    # It was signed after it was promoted.
    assert not run_promote("a", "line", str(root)).changed
    assert run_pull("line", tmp_path / "new", str(root), public).is_signed


def test_a_bundle_argument_of_this_machine(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()  # a bare name is a run's, whatever lies here
    assert local_bundle("a", str(root)) == root / "runs" / "a" / "bundle"
    assert local_bundle("./a", str(root)) == Path("a")
    assert local_bundle(str(root / "runs" / "a"), "outputs") == root / "runs" / "a"
    with pytest.raises(
        BundleError, match=r"runs/nothing has no bundle; export the run first, or give the bundle's folder$"
    ):
        local_bundle("nothing", str(root))
    (tmp_path / "nothing").mkdir()
    with pytest.raises(BundleError, match=r"runs/nothing has no bundle.*; for the folder nothing here give \./nothing"):
        local_bundle("nothing", str(root))
    with pytest.raises(ConfigError, match="resnet-dist pull s3://b/runs/a --to DIR"):
        local_bundle("s3://b/runs/a", str(root))
