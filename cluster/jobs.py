"""A job on a cluster, whatever runs it: its request, its command there, its state, what a target must be able to do."""

import hashlib
import json
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

from cluster.errors import SubmissionError

Verb = Literal["train", "tune", "evaluate", "export", "compress"]
JobState = Literal["queued", "admitted", "running", "retrying", "done", "failed", "stopped"]
ENDED: tuple[JobState, ...] = ("done", "failed", "stopped")

TERMINATED = 143
"""The exit code of a job that SIGTERM ended: a scheduler needed its place, or its node went away."""
PREEMPTED = "preempted: ended from outside (SIGTERM); submitted again, it resumes from its last checkpoint"
"""The reason of such a job."""
JOB_FILE, SEARCH_FILE = "job.toml", "search.toml"
"""The files of a job, in whichever folder its driver finds them."""
THEN = "--then"
"""Parts a job's commands on the command line of its driver."""
SUBMISSION, RUN, RETRIES = "RESNET_DIST_SUBMISSION", "RESNET_DIST_RUN", "RESNET_DIST_RETRIES"
"""Environment variables of a job's driver: the submission, the URI of the run or search that it writes to, and how
often a command that failed starts again."""
HELD_GPUS = "RESNET_DIST_HELD_GPUS"
"""Environment variable of the driver of a job in a queue with GPUs: its `HeldGpus` as JSON."""


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
    module: str
    """The Python module that the cluster starts with the verb and its arguments."""
    then: tuple[str, ...] = ()
    """Another verb with its arguments, which the same job runs when the first is done; empty: none."""

    @property
    def content(self) -> str:
        """sha256, in hex, of all that is asked for, comments apart: more epochs differ in this and not in identity."""
        files = [None if text is None else tomllib.loads(text) for text in (self.job_toml, self.search_toml)]
        parts = [self.verb, list(self.arguments), *files, *([list(self.then)] if self.then else [])]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def entrypoint(request: JobRequest, folder: str = "") -> str:
    """The command of a job's driver, for a shell. Its files lie in `folder`, by default the working directory."""
    below = f"{folder}/" if folder else ""
    search = () if request.search_toml is None else ("--search", f"{below}{SEARCH_FILE}")
    command = ("python", "-m", request.module, request.verb, *request.arguments)
    job = ("--config", f"{below}{JOB_FILE}")
    then = (THEN, *request.then, *job) if request.then else ()
    return shlex.join((*command, *job, *search, *then))


def refuse_lost_command(view: "JobView", request: JobRequest) -> None:
    """Raise SubmissionError where a command is to follow, and a job that was asked for otherwise has not ended."""
    if request.then and not view.ended and view.content != request.content:
        raise SubmissionError(
            f"job {request.name} is {view.state}, and it was not submitted with all that is asked for now, so it may "
            f"end without {request.then[0]}; wait for it, or stop it with `resnet-dist jobs stop {request.name}`, then "
            "submit again"
        )


def environment(request: JobRequest) -> dict[str, str]:
    """The environment of a job's driver."""
    return {SUBMISSION: request.submission, RUN: request.run}


@dataclass(frozen=True)
class HeldGpus:
    """Which queue's GPUs a job holds while it runs."""

    namespace: str
    queue: str
    """The LocalQueue."""
    job: str
    resource: str
    """Of Kubernetes: nvidia.com/gpu, or a part of a GPU."""
    devices: int
    """Of all its pods together."""

    def to_json(self) -> str:
        """In a line."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class JobView:
    """The state of a job, as far as its target tells."""

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
    hindered: bool = False
    """Whether it cannot begin until somebody does something: its reason says what is missing."""
    submitted: str = ""
    """UTC time, ISO 8601."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ENDED

    @property
    def never_began(self) -> bool:
        """Whether its configuration was refused: then another job may take the name. A run that has begun under the
        name refuses a job of another identity by itself."""
        return self.state == "failed" and self.exit_code == 2


class JobTarget(Protocol):
    """Where jobs run. All methods raise SubmissionError for what the target refuses, TargetUnreachableError when it
    does not answer for minutes."""

    def submit(self, request: JobRequest) -> JobView:
        """Start a job. The same name and identity is the same job. The target leaves one alone that has not ended, or
        is done with the same content; else the job starts again and resumes from what it has stored. A job of another
        identity under the name is refused, unless the job there never began."""
        ...

    def list(self) -> list[JobView]:
        """All jobs, the newest first."""
        ...

    def view(self, name: str) -> JobView:
        """One job."""
        ...

    def follow(self, name: str) -> Iterator[JobView]:
        """A job's views until it has ended: the first at once, then one for each change, and from time to time the
        same one again."""
        ...

    def logs(self, name: str, *, follow: bool) -> Iterator[str]:
        """The lines that a job's driver prints; with `follow` until the job has ended, through retries."""
        ...

    def stop(self, name: str) -> JobView:
        """End a job. What it has stored stays, and the same job submitted again resumes from it."""
        ...
