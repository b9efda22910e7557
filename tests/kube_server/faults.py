"""What goes wrong between an API server and its client, on demand: for the next requests that match."""

import re
import threading
from dataclasses import dataclass, field
from typing import Literal

Trouble = Literal["answer", "reset", "lost", "page", "short", "half-closed", "cut line", "cut", "silent"]


@dataclass
class Fault:
    """One kind of trouble, for the next `times` requests that match.

    - answer: a Status of `code` (429, 500, 503, ...) with Retry-After if `retry_after` is given; not carried out
    - reset: the connection is reset before anything is carried out
    - lost: the request is carried out, and the connection is reset before its answer
    - silent: the request is carried out, and no answer comes; the connection stays open
    - page: a page of HTML with status `code`, as a proxy in between answers
    - short: the answer ends early
    - half-closed: a stream gets no more after `after` lines, yet stays open
    - cut line: a stream is reset in the middle of the line after `after` lines
    - cut: a stream is reset after `after` lines
    """

    trouble: Trouble
    times: int = 1
    verb: str = ""
    """Only for this verb (get, list, watch, create, update, patch, delete); empty: for all."""
    path: str = ""
    """Only for paths in which this regular expression is found."""
    code: int = 503
    retry_after: float | None = None
    message: str = "the server is currently unable to handle the request"
    after: int = 0


@dataclass
class Faults:
    """The troubles to come; safe from any thread."""

    waiting: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fault: Fault) -> None:
        """Let it happen; the ones that were added first happen first."""
        with self._lock:
            self.waiting.append(fault)

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        with self._lock:
            self.waiting.clear()

    def next(self, verb: str, path: str) -> Fault | None:
        """What happens to this request."""
        with self._lock:
            for fault in self.waiting:
                if fault.verb in ("", verb) and re.search(fault.path, path):
                    fault.times -= 1
                    if not fault.times:
                        self.waiting.remove(fault)
                    return fault
        return None
