"""--dry-run as kubectl has it: none, client or server; alone it is client."""

import pytest

from ray_jobs.cli.program import DryRun, answer, new_app, strategy_of


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (["x"], ("x", "none")),
        (["x", "--dry-run"], ("x", "client")),
        (["x", "--dry-run=client"], ("x", "client")),
        (["--dry-run", "--", "x"], ("x", "client")),
        (["--dry-run=server", "x"], ("x", "server")),
        (["x", "--dry-run", "server"], ("x", "server")),
        (["--dry-run=none", "x"], ("x", "none")),
        (["--", "--dry-run=server"], ("--dry-run=server", "none")),
    ],
)
def test_each_form_is_one_word_to_the_command(tokens: list[str], expected: tuple[str, str]) -> None:
    app, seen = new_app(), list[tuple[str, str]]()

    @app.command
    def act(name: str, /, *, dry_run: DryRun = "none") -> None:
        seen.append((name, strategy_of(dry_run)))

    assert answer(app, ["act", *tokens]) == 0
    assert seen == [expected]


@pytest.mark.parametrize("value", ["serve", "server=1"])
def test_another_value_is_refused_with_those_there_are(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    app = new_app()

    @app.command
    def act(*, dry_run: DryRun = "none") -> None:
        raise AssertionError(dry_run)

    assert answer(app, ["act", f"--dry-run={value}"]) == 2
    error = capsys.readouterr().err
    assert "--dry-run" in error
    assert value in error
    assert all(word in error for word in ("none", "client", "server"))
