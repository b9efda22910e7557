import ast
import builtins
import importlib
from pathlib import Path

import pytest

import ray_jobs.errors
from cluster.errors import ResourceError, RunHeldError, StorageError
from data_pipeline.errors import DataError
from ray_jobs.errors import ConfigError, GateError, JobFailedError, TerminationError
from ray_jobs.exit_codes import ExitCode, exit_code_of, explain
from resnet_dist.errors import RunError

ROOT = Path(__file__).parents[3]
PACKAGES = ("cluster", "data_pipeline", "ray_jobs", "resnet_dist")

CODES = [
    (ConfigError("m"), 2),
    (ResourceError("m"), 2),
    (DataError("m"), 3),
    (RunError("m"), 3),
    (StorageError("m"), 3),
    (RunHeldError("m"), 3),
    (GateError("m"), 4),
    (KeyboardInterrupt(), 130),
    (TerminationError(), 143),
    (JobFailedError("m"), 1),
    (ZeroDivisionError("m"), 1),
]


@pytest.mark.parametrize("debug", [False, True])
def test_an_error_of_a_library_is_shown_without_the_secret_of_its_address(
    debug: bool, capsys: pytest.CaptureFixture[str]
):
    explain(OSError("cannot reach https://me:hun/ter2@host/x or s3://b/x?token=hun/ter2"), debug=debug)
    said = capsys.readouterr().err
    assert "cannot reach https://...@host/x or s3://b/x?..." in said
    assert "ter2" not in said


@pytest.mark.parametrize(("error", "code"), CODES, ids=[type(error).__name__ for error, _ in CODES])
def test_an_error_has_its_exit_code_and_no_traceback(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
):
    assert exit_code_of(error) == code
    assert explain(error, debug=False) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err


def test_debug_shows_where_an_error_comes_from(capsys: pytest.CaptureFixture[str]):
    def guilty():
        raise DataError("value, rule, remedy")

    with pytest.raises(DataError) as caught:
        guilty()
    explain(caught.value, debug=True)
    shown = capsys.readouterr().err
    assert "in guilty" in shown
    assert shown.endswith("error: value, rule, remedy\n")


def test_what_nobody_foresaw_is_named_by_its_type(capsys: pytest.CaptureFixture[str]):
    explain(ZeroDivisionError("division by zero"), debug=False)
    assert capsys.readouterr().err == "error: ZeroDivisionError: division by zero (--debug shows where)\n"


def test_many_problems_are_one_block(capsys: pytest.CaptureFixture[str]):
    explain(ConfigError("a: x\nb: y"), debug=False)
    assert capsys.readouterr().err == "error: a: x\n       b: y\n"


def test_the_codes_are_those_that_are_documented():
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0,
        "FAILED": 1,
        "USAGE": 2,
        "UNUSABLE": 3,
        "GATE": 4,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }


def exceptions() -> dict[str, type[BaseException]]:
    """All exception classes of the four packages, by module and name. Only modules that define one are imported."""
    bases: dict[tuple[str, str], set[str]] = {}
    for path in [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                bases[module, node.name] = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    known = {
        name for name, each in vars(builtins).items() if isinstance(each, type) and issubclass(each, BaseException)
    }
    while found := {name for (_, name), above in bases.items() if above & known} - known:
        known |= found
    return {
        f"{module}.{name}": getattr(importlib.import_module(module), name)
        for module, name in bases
        if name in known and bases[module, name] & known
    }


def tree() -> list[tuple[str, str, str]]:
    """The documented exceptions: module and name, the name of the class above, exit code."""
    found: list[tuple[str, str, str]] = []
    above: dict[int, str] = {}
    for line in (ray_jobs.errors.__doc__ or "").splitlines():
        if not line.startswith("    "):
            continue
        depth, (name, *rest) = (len(line) - len(line.lstrip())) // 2, line.split()
        above[depth] = name
        if rest:
            code, module = rest
            found.append((f"{module}.{name}", above[depth - 1], code))
    return found


def test_the_documented_tree_is_that_of_the_classes():
    classes = exceptions()
    assert len(classes) > 20
    assert "ray_jobs.errors.ConfigError" in classes
    documented = tree()
    assert sorted(name for name, _, _ in documented) == sorted(classes)
    assert {name: above for name, above, _ in documented} == {
        name: found.__base__.__name__ for name, found in classes.items() if found.__base__ is not None
    }


def test_the_documented_exit_codes_are_those_of_the_errors():
    classes = exceptions()
    for name, _, code in tree():
        assert code in {"-", str(int(exit_code_of(classes[name].__new__(classes[name]))))}, name
    # What no command shows has no code of its own.
    hidden = [name for name, _, code in tree() if code == "-"]
    assert {exit_code_of(classes[name].__new__(classes[name])) for name in hidden} == {ExitCode.FAILED}
