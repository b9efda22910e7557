"""A job on a cluster, whatever runs it: what is asked for, what is known of it, what a target must be able to do."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

Verb = Literal["train", "tune", "evaluate", "export"]
JobState = Literal["queued", "admitted", "running", "retrying", "done", "failed", "stopped"]
ENDED: tuple[JobState, ...] = ("done", "failed", "stopped")


@dataclass(frozen=True)
class JobRequest:
    """One job to be run."""

    name: str
    """Its name, which is also how it is found again: that of its run or search, with the verb for other verbs."""
    verb: Verb
    arguments: tuple[str, ...]
    """What follows the verb on the command line, besides the job file."""
    job_toml: str
    """The complete job as TOML."""
    search_toml: str | None
    """With tune, the search as TOML; None: the one that ships."""
    identity: str
    """sha256, in hex, of what makes two requests the same job: verb, arguments and all that decides the result."""
    submission: str
    """Random; names this request in status.json, where retries of it share it."""
    run: str
    """URI of the run or search that it writes to."""

    @property
    def content(self) -> str:
        """sha256, in hex, of all that is asked for: a request for more epochs differs in this and not in identity."""
        parts = [self.verb, list(self.arguments), self.job_toml, self.search_toml]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class JobView:
    """What is known of a job."""

    name: str
    verb: str
    state: JobState
    reason: str = ""
    """Why it is in that state, in one line; empty where there is nothing to say."""
    identity: str = ""
    content: str = ""
    submission: str = ""
    run: str = ""
    queue: str = ""
    position: int | None = None
    """Jobs that the queue admits before it; None where that is not known."""
    priority: str = ""
    attempt: int = 1
    exit_code: int | None = None
    """The job's own, once it has ended and where it is known."""
    submitted: str = ""
    """UTC time, ISO 8601."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ENDED

    @property
    def never_began(self) -> bool:
        """Whether its configuration was refused: the name is free for the mended one. A run that has begun under the
        name with another identity refuses that by itself."""
        return self.state == "failed" and self.exit_code == 2


class JobTarget(Protocol):
    """Where jobs run. All methods raise SubmissionError for what the target refuses, TargetUnreachableError when it
    does not answer for minutes."""

    def submit(self, request: JobRequest) -> JobView:
        """Start a job. The same name and identity is the same job: one that goes on is left as it is, and so is one
        that is done with the same content; else it starts again, and goes on with what it has stored. Another identity
        under a name is refused, unless the job there never began."""
        ...

    def list(self) -> list[JobView]:
        """All jobs, the newest first."""
        ...

    def view(self, name: str) -> JobView:
        """One job."""
        ...

    def follow(self, name: str) -> Iterator[JobView]:
        """A job's views until it has ended: the first at once, then one for each change and now and then the same."""
        ...

    def logs(self, name: str, *, follow: bool) -> Iterator[str]:
        """The lines that a job's driver prints; with `follow` until it has ended, through retries."""
        ...

    def stop(self, name: str) -> JobView:
        """End a job; what it has stored stays, and the same submission goes on with it."""
        ...
