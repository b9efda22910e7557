"""The output of a submitted command and how it ended, in the logs/ of its run: both outlive the cluster."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

from cluster.errors import StorageError
from cluster.storage.store import Store
from resnet_dist.plain_json import parsed_object

_HEAD, _TAIL = 256 * 1024, 1024 * 1024
"""Bytes of a log that are kept from its start and from its end."""
_MOST_RECORD = 64 * 1024
_Record = TypeVar("_Record")


@dataclass(frozen=True)
class DriverBegin:
    """The newest attempt of a submission, which may have ended since."""

    verb: str
    attempt: int
    """From 1 on, over all commands of the submission."""
    tried: int
    """How often this process has started the command, this time included."""
    most: int
    """How often it may."""


@dataclass(frozen=True)
class DriverEnd:
    """How an attempt of a submission ended."""

    verb: str
    attempt: int
    """From 1 on, over all commands of the submission."""
    exit_code: int
    ended: str
    """UTC time, ISO 8601."""
    last_line: str
    """The last line that it printed, or its error as one line where it ended with one."""


def read_end(run: Store, submission: str) -> DriverEnd | None:
    """How the last ended attempt ended; None where none has, or that cannot be read."""

    def made(value: dict[str, Any]) -> DriverEnd:
        return DriverEnd(
            verb=str(value["verb"]),
            attempt=int(value["attempt"]),
            exit_code=int(value["exit_code"]),
            ended=str(value["ended"]),
            last_line=str(value["last_line"]),
        )

    return _read(run, _end_file(submission), made)


def read_begin(run: Store, submission: str) -> DriverBegin | None:
    """The newest attempt; None where none has begun, or that cannot be read."""

    def made(value: dict[str, Any]) -> DriverBegin:
        numbers = {name: int(value[name]) for name in ("attempt", "tried", "most")}
        return DriverBegin(verb=str(value["verb"]), **numbers)

    return _read(run, _begin_file(submission), made)


def _read(run: Store, path: str, made: Callable[[dict[str, Any]], _Record]) -> _Record | None:
    try:
        data = run.read_or_none(path, _MOST_RECORD)
        return None if data is None else made(parsed_object(data))
    except (StorageError, ValueError, KeyError, TypeError, OverflowError):
        return None


def read_log(run: Store, submission: str) -> str:
    """The newest attempt's output so far, without the middle of a long one; empty where nothing is stored."""
    attempts = _attempts(run, submission)
    return run.read(_log_file(submission, attempts[-1])).decode(errors="replace") if attempts else ""


class DriverLog:
    """The log of one attempt; a long one loses its middle."""

    def __init__(self, run: Store, submission: str, verb: str, attempt: int) -> None:
        self._run, self._submission, self._verb, self.attempt = run, submission, verb, attempt
        self._head, self._tail, self._left_out = bytearray(), bytearray(), 0
        self._written: bytes | None = None

    def of_next_attempt(self, verb: str) -> Self:
        """An empty one. Storage is not asked: whoever has this attempt's number has the next one's."""
        return type(self)(self._run, self._submission, verb, self.attempt + 1)

    @classmethod
    def begin(cls, run: Store, submission: str, verb: str) -> Self:
        """That of a submission's next attempt. Raises StorageError where the run's place cannot be read."""
        return cls(run, submission, verb, max(_attempts(run, submission), default=0) + 1)

    def begun(self, tried: int, most: int) -> None:
        """Store that the attempt begins: `tried` times of `most` with this one. Raises StorageError."""
        begin = DriverBegin(self._verb, self.attempt, tried, most)
        self._run.write(_begin_file(self._submission), (json.dumps(asdict(begin), indent=2) + "\n").encode())

    def add(self, text: bytes) -> None:
        """Append output."""
        room = _HEAD - len(self._head)
        self._head += text[: max(room, 0)]
        self._tail += text[max(room, 0) :]
        if len(self._tail) > 2 * _TAIL:
            self._left_out += len(self._tail) - _TAIL
            del self._tail[:-_TAIL]

    def text(self) -> bytes:
        """The output, as it is to be stored."""
        gap = f"\n[... {self._left_out} bytes left out ...]\n".encode() if self._left_out else b""
        return bytes(self._head) + gap + bytes(self._tail)

    def store(self, text: bytes) -> None:
        """Write the result of `text` if it has changed since the last call. Raises StorageError."""
        # An attempt that has printed nothing has an empty log too, by which its number is taken.
        if text != self._written:
            self._run.write(_log_file(self._submission, self.attempt), text)
            self._written = text

    def end(self, exit_code: int) -> None:
        """Store the rest of the log and how the attempt ended. Raises StorageError."""
        self.store(self.text())
        record = {
            "verb": self._verb,
            "attempt": self.attempt,
            "exit_code": exit_code,
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "last_line": _last_words(self.text()[-4096:].decode(errors="replace")),
        }
        self._run.write(_end_file(self._submission), (json.dumps(record, indent=2) + "\n").encode())


def _last_words(text: str) -> str:
    """The last line; all lines of an error where the text ends with one."""
    lines = [line for line in text.splitlines() if line.strip()]
    began = max((at for at, line in enumerate(lines) if line.startswith("error: ")), default=len(lines))
    is_error = all(line.startswith(" ") for line in lines[began + 1 :])
    last = lines[began:] if is_error and began < len(lines) else lines[-1:]
    return " ".join(" ".join(last).split())[:2000]


def _attempts(run: Store, submission: str) -> list[int]:
    found = (re.fullmatch(rf"driver-{re.escape(submission)}-(\d{{1,6}})\.log", name) for name in run.list("logs"))
    return sorted(int(each[1]) for each in found if each is not None)


def _log_file(submission: str, attempt: int) -> str:
    return f"logs/driver-{submission}-{attempt}.log"


def _begin_file(submission: str) -> str:
    return f"logs/driver-{submission}-begun.json"


def _end_file(submission: str) -> str:
    return f"logs/driver-{submission}.json"
