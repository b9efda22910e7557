"""--dry-run with and without a value, wherever it stands."""

from typing import Annotated

import pytest
from cyclopts import Parameter

from ray_jobs.cli.dry_run_flag import DryRun, DryRunServer
from ray_jobs.cli.program import COMMAND, answer, new_app


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (["x"], ("x", False, False)),
        (["x", "--dry-run"], ("x", True, False)),
        (["--dry-run", "x"], ("x", True, False)),
        (["x", "--dry-run=server"], ("x", False, True)),
        (["--dry-run=server", "x"], ("x", False, True)),
        (["--dry-run", "--dry-run=server", "x"], ("x", True, True)),
        (["--", "--dry-run=server"], ("--dry-run=server", False, False)),
    ],
)
def test_both_forms_are_told_apart(tokens: list[str], expected: tuple[str, bool, bool]) -> None:
    app, seen = new_app(), list[tuple[str, bool, bool]]()

    @app.command
    def act(
        name: str,
        /,
        *,
        dry_run: Annotated[DryRun, Parameter(group=COMMAND)] = False,
        dry_run_server: Annotated[DryRunServer, Parameter(group=COMMAND)] = False,
    ) -> None:
        seen.append((name, dry_run, dry_run_server))

    assert answer(app, ["act", *tokens]) == 0
    assert seen == [expected]


@pytest.mark.parametrize("value", ["client", "serve", "", "server=1"])
def test_another_value_is_refused(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    app = new_app()

    @app.command
    def act(*, dry_run: DryRun = False, dry_run_server: DryRunServer = False) -> None:
        raise AssertionError(dry_run, dry_run_server)

    assert answer(app, ["act", f"--dry-run={value}"]) == 2
    assert "--dry-run" in capsys.readouterr().err
