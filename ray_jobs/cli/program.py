"""What all commands share: the program's help, how errors become exit codes, and hints for unknown flags."""

from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Argument, CycloptsError, Group, Parameter, UnknownOptionError

from ray_jobs.cli.flag_names import named_as_flags
from ray_jobs.cli.missing_package import missing_package
from ray_jobs.errors import ConfigError
from ray_jobs.exit_codes import ExitCode, explain
from ray_jobs.job.credentials import secrets_in_words
from ray_jobs.terminal.end_signals import ends_on_signals
from ray_jobs.terminal.watcher import watched

COMMAND = Group.create_ordered("command", sort_key=0)
"""Flags of a command itself, above those of the job."""

Word = Annotated[str, Parameter(group=COMMAND)]
"""A parameter that must be given, or has a default worth showing."""
Text = Annotated[str | None, Parameter(group=COMMAND, show_default=False)]
File = Annotated[Path | None, Parameter(group=COMMAND, show_default=False)]
Whole = Annotated[int | None, Parameter(group=COMMAND, show_default=False)]
Number = Annotated[float, Parameter(group=COMMAND)]
Switch = Annotated[bool, Parameter(group=COMMAND, negative=(), show_default=False)]


Strategy = Literal["none", "client", "server"]
DryRun = Annotated[
    bool | Strategy,
    Parameter(group=COMMAND, negative=(), show_default=False, show_choices=False, metavar="none|client|server"),
]
"""A flag as kubectl has it, with or without a value; `strategy_of` makes one word of it."""


def strategy_of(dry_run: bool | Strategy) -> Strategy:
    """--dry-run alone is --dry-run=client."""
    return dry_run if isinstance(dry_run, str) else "client" if dry_run else "none"


def new_app() -> App:
    """The program without its commands."""
    return App(
        name="resnet-dist",
        help="From a folder of labelled photographs to a verified ResNet, on a laptop or a shared pool of GPUs.",
        help_format="plaintext",
        help_epilogue="--debug, anywhere, adds the traceback to an error. Exit codes: 0 done, 1 failed, 2 wrong usage "
        "or configuration, 3 unusable data, run or storage, 4 refused by a quality gate, 130 interrupted, 143 "
        "ended from outside (SIGTERM).",
        version=lambda: version("resnet-dist"),
        version_flags=("--version",),
        suppress_keyboard_interrupt=False,
    )


def answer(app: App, tokens: list[str]) -> int:
    """Run a command line and return its exit code; errors are printed."""
    debug = "--debug" in tokens
    if secrets := secrets_in_words(tokens):
        # Before any command sees it: no message, file or object can repeat it.
        return explain(ConfigError("\n".join(secrets)), debug)
    in_words = named_as_flags(tokens)
    try:
        with watched(), ends_on_signals():
            code = app(
                [token for token in tokens if token != "--debug"],  # noqa: S105 - no password
                exit_on_error=False,
                print_error=False,
                result_action="return_value",
            )
    except UnknownOptionError as error:
        text = error.token.keyword or error.token.value
        return explain(ConfigError(unknown_flag(text, error.argument_collection)), debug)
    except CycloptsError as error:
        return explain(ConfigError(f"{str(error).strip()} See --help."), debug)
    except ModuleNotFoundError as error:
        return explain(missing_package(error, tokens), debug)
    except (Exception, KeyboardInterrupt) as error:
        return explain(error, debug, in_words)
    return ExitCode.DONE if code is None else int(code)


def unknown_flag(text: str, arguments: Iterable[Argument]) -> str:
    """What to say of a flag that no argument has."""
    from ray_jobs.job.toml_codec import nearest

    flag = text.partition("=")[0]
    known = [name.removeprefix("--") for argument in arguments for name in argument.names]
    near = nearest(flag.removeprefix("--"), [name.replace("-", "_") for name in known])
    hint = f"did you mean {' or '.join('--' + name.replace('_', '-') for name in near)}?" if near else "see --help"
    return f"{flag}: unknown flag; {hint}"
