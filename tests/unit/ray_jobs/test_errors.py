import pytest

from cluster.errors import ResourceError, RunHeldError, StorageError
from data_pipeline.errors import DataError
from ray_jobs.errors import ConfigError, ExitCode, GateError, JobFailedError, exit_code_of, explain
from resnet_dist.errors import RunError

CODES = [
    (ConfigError("m"), 2),
    (ResourceError("m"), 2),
    (DataError("m"), 3),
    (RunError("m"), 3),
    (StorageError("m"), 3),
    (RunHeldError("m"), 3),
    (GateError("m"), 4),
    (KeyboardInterrupt(), 130),
    (JobFailedError("m"), 1),
    (ZeroDivisionError("m"), 1),
]


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
    }
