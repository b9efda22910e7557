"""How an exception becomes a command's exit code, and what a person reads on stderr."""

import signal
import sys
import traceback
from collections.abc import Callable
from enum import IntEnum

from cluster.errors import RayDiedError, ResourceError, StorageError, SubmissionError, TargetUnreachableError
from cluster.storage.credentials import without_secrets
from data_pipeline.errors import DataError
from ray_jobs.errors import ConfigError, GateError, JobFailedError, TerminationError
from resnet_dist.errors import DivergedError, RunError, UnreachableTargetError
from resnet_dist.runtime.errors import BundleError, RuntimeMissingError


class ExitCode(IntEnum):
    """What a command's exit status means; also in status.json."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    """Wrong usage or configuration."""
    UNUSABLE = 3
    """The data, a run or storage cannot be used."""
    GATE = 4
    """A quality gate refused the result."""
    INTERRUPTED = 130
    """By a person: Ctrl-C."""
    TERMINATED = 143
    """From outside: SIGTERM of a scheduler that needs the place, or of a service that stops. Another try resumes."""

    @property
    def is_stopped(self) -> bool:
        """Whether the work was ended, and not by a failure of its own."""
        return self in (ExitCode.INTERRUPTED, ExitCode.TERMINATED)


FINAL = (ExitCode.USAGE, ExitCode.UNUSABLE, ExitCode.GATE)
"""Exit codes that another try would end with again. 130 and 143 are none: another try resumes."""
NOT_TRIED_AGAIN = (ExitCode.DONE, *FINAL, ExitCode.INTERRUPTED, ExitCode.TERMINATED)
"""Exit codes after which nobody starts the command again without being asked."""


def exit_code_of(error: BaseException) -> ExitCode:
    """The exit code that stands for an error."""
    match error:
        case ConfigError() | ResourceError() | SubmissionError() | RuntimeMissingError() | UnreachableTargetError():
            return ExitCode.USAGE
        case DataError() | RunError() | StorageError() | BundleError():
            return ExitCode.UNUSABLE
        case GateError():
            return ExitCode.GATE
        case TerminationError() | SystemExit(code=signal.SIGTERM):  # the latter is how Ray answers SIGTERM
            return ExitCode.TERMINATED
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED
        case _:
            return ExitCode.FAILED


def explain(error: BaseException, debug: bool, in_words: Callable[[str], str] = str) -> ExitCode:
    """Print an error to stderr as one readable block, with its traceback if asked for; returns its exit code.

    `in_words`: what becomes of the message for who reads it.
    """
    code = exit_code_of(error)
    if debug:
        sys.stderr.write(without_secrets("".join(traceback.format_exception(error))))
    sentence = sentence_of(error) if _is_unexpected(error) else in_words(sentence_of(error))
    hint = " (--debug shows where)" if _is_unexpected(error) and not debug else ""
    sys.stderr.write(f"error: {sentence}{hint}".replace("\n", "\n       ") + "\n")
    return code


def sentence_of(error: BaseException) -> str:
    """What a person reads of an error, also in status.json."""
    code = exit_code_of(error)
    if code is ExitCode.INTERRUPTED:
        return "interrupted; the same command resumes"
    if code is ExitCode.TERMINATED:
        return "ended from outside (SIGTERM); the same command resumes"
    # Libraries quote addresses that they have from the environment.
    return without_secrets(f"{type(error).__name__}: {error}" if _is_unexpected(error) else str(error))


def _is_unexpected(error: BaseException) -> bool:
    """Whether it is none of ours, so that its message alone may say too little."""
    is_ours = isinstance(error, JobFailedError | DivergedError | RayDiedError | TargetUnreachableError)
    return exit_code_of(error) is ExitCode.FAILED and not is_ours
