"""Jobs on any running Ray, over the HTTP API that its dashboard serves (http://HOST:8265)."""

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ray.dashboard.modules.job.pydantic_models import JobDetails

from cluster.errors import NoSuchObjectError, SubmissionError
from cluster.job_log import own_lines
from cluster.jobs import (
    JOB_FILE,
    SEARCH_FILE,
    JobRequest,
    JobView,
    entrypoint,
    environment,
    refuse_lost_command,
)
from cluster.jobs_api.client import RayJobsClient
from cluster.jobs_api.log import follow_log
from cluster.jobs_api.names import check_name, submission_id
from cluster.jobs_api.states import PROGRAM, tree_of, view_of
from cluster.jobs_api.working_tree import WorkingTree

_PATIENCE_S = 180.0
"""Longer than a head node's server needs to start again."""
_POLL_S = 1.0
_SAME_S = 5.0
"""How often a view that has not changed is given again: what it says nothing of may have."""
_STOP_S = 30
"""What a driver is given to end workers and write its status before it is killed."""


class RayJobsTarget:
    """A JobTarget: submits to a Ray that runs already and has its own code, or gets it from a working tree.

    Each start of a job is an attempt: a Ray job of its own, whose id is the job's name and the attempt's number.
    """

    def __init__(
        self,
        address: str,
        *,
        working_tree: Path | None = None,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        """`address`: http://HOST:8265. `working_tree`: a checkout whose code the job runs instead of the image's.
        `patience_s`: seconds without an answer after which TargetUnreachableError is raised.
        """
        self.address = address
        self._working_tree = working_tree
        self._client = RayJobsClient(address, os.environ, patience_s)

    def submit(self, request: JobRequest) -> JobView:
        """As JobTarget says. Raises SubmissionError also where the cluster's Ray is of another version."""
        check_name(request.name)
        self._client.check_version()
        tree = None if self._working_tree is None else WorkingTree.read(self._working_tree)
        digest = "" if tree is None else tree.digest
        while True:
            newest = self._newest(request.name)
            if newest is not None:
                view, details = newest
                if view.identity != request.identity and not view.never_began:
                    raise SubmissionError(
                        f"{self.address} has a job {request.name} already ({view.state}), and it is another one: its "
                        f"identity is {view.identity[:12]}, that of this one {request.identity[:12]}; choose another "
                        "--name"
                    )
                refuse_lost_command(view, request)
                if not view.ended or (view.state == "done" and view.content == request.content):
                    return replace(view, reason=_other_code(tree_of(details), digest) or view.reason)
            attempt = 1 if newest is None else newest[0].attempt + 1
            if self._start(request, attempt, tree, digest):
                return self.view(request.name)

    def list(self) -> list[JobView]:
        """As JobTarget says, without what others run on the same Ray."""
        newest: dict[str, JobView] = {}
        for view, _ in self._all():
            if view.name not in newest or newest[view.name].attempt < view.attempt:
                newest[view.name] = view
        return sorted(newest.values(), key=lambda view: view.submitted, reverse=True)

    def view(self, name: str) -> JobView:
        """As JobTarget says. Raises NoSuchObjectError where there is no such job."""
        return self._existing(name)[0]

    def follow(self, name: str) -> Iterator[JobView]:
        """As JobTarget says."""
        view, details = self._existing(name)
        yield view
        shown = time.monotonic()
        while not view.ended:
            time.sleep(_POLL_S)
            before, view = view, view_of(self._details(name, details.submission_id or "")) or view
            if view != before or time.monotonic() - shown > _SAME_S:
                shown = time.monotonic()
                yield view

    def logs(self, name: str, *, follow: bool) -> Iterator[str]:
        """As JobTarget says; without `follow`, what the newest attempt has printed so far."""
        view, _ = self._existing(name)
        if not follow:
            yield from own_lines(self._client.get_job_logs(submission_id(name, view.attempt)).splitlines())
            return
        attempt = 0
        while view.attempt > attempt:
            attempt = view.attempt
            yield from own_lines(follow_log(self._client, submission_id(name, attempt)))
            view = self.view(name)  # it may have been started again meanwhile

    def stop(self, name: str) -> JobView:
        """As JobTarget says: what Ctrl-C does to a command. Waits until the job has ended."""
        view, details = self._existing(name)
        if view.ended:
            return view
        self._client.stop_job(details.submission_id or "")
        deadline = time.monotonic() + _STOP_S + 10
        while not view.ended and time.monotonic() < deadline:
            time.sleep(_POLL_S / 4)
            view = view_of(self._details(name, details.submission_id or "")) or view
        return view

    def _start(self, request: JobRequest, attempt: int, tree: WorkingTree | None, digest: str) -> bool:
        """Submit an attempt; False where another one has the id already."""
        identifier = submission_id(request.name, attempt)
        with tempfile.TemporaryDirectory(prefix="resnet-dist-") as folder:
            if tree is not None:
                tree.write(Path(folder))
            Path(folder, JOB_FILE).write_text(request.job_toml, encoding="utf-8")
            if request.search_toml is not None:
                Path(folder, SEARCH_FILE).write_text(request.search_toml, encoding="utf-8")
            try:
                self._client.submit_job(
                    entrypoint=entrypoint(request),
                    submission_id=identifier,
                    runtime_env={"working_dir": folder, "env_vars": _environment(request)},
                    metadata={
                        "program": PROGRAM,
                        "name": request.name,
                        "verb": request.verb,
                        "identity": request.identity,
                        "content": request.content,
                        "submission": request.submission,
                        "run": request.run,
                        "tree": digest,
                    },
                    entrypoint_num_cpus=0,  # it waits for workers; they take the CPUs
                )
            except SubmissionError:
                # Another submission was first, or Ray's answer to this one was lost and it was sent twice.
                taken = self._found(identifier)
                if taken is None:
                    raise
                if view_of(taken) is None:
                    raise SubmissionError(
                        f"{self.address} has a job {identifier} of another program; choose another --name"
                    ) from None
                return False
        return True

    def _all(self) -> Sequence[tuple[JobView, JobDetails]]:
        found = [(view_of(details), details) for details in self._client.list_jobs()]
        return [(view, details) for view, details in found if view is not None]

    def _newest(self, name: str) -> tuple[JobView, JobDetails] | None:
        attempts = [each for each in self._all() if each[0].name == name]
        return max(attempts, key=lambda each: each[0].attempt, default=None)

    def _existing(self, name: str) -> tuple[JobView, JobDetails]:
        check_name(name)
        newest = self._newest(name)
        if newest is None:
            names = sorted({view.name for view, _ in self._all()})
            known = (
                f"its jobs: {', '.join(names[:10])}" if names else "it has none; a Ray that starts again forgets all"
            )
            raise NoSuchObjectError(f"{self.address} has no job {name}; {known}")
        return newest

    def _found(self, identifier: str) -> JobDetails | None:
        try:
            return self._client.get_job_info(identifier)
        except NoSuchObjectError:
            return None

    def _details(self, name: str, identifier: str) -> JobDetails:
        details = self._found(identifier)
        if details is None:
            raise NoSuchObjectError(
                f"{self.address} has lost the job {name}, as a Ray does whose head node starts again; submit it again: "
                "it resumes from its last checkpoint"
            )
        return details


def _environment(request: JobRequest) -> dict[str, str]:
    return {
        **environment(request),
        "RAY_USAGE_STATS_ENABLED": "0",
        # A stop is then what Ctrl-C is to a command, which ends its workers and says so in status.json.
        "RAY_JOB_STOP_SIGNAL": "SIGINT",
        "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_S),
    }


def _other_code(runs: str, wanted: str) -> str:
    """The reason to show where the same job runs other code than was requested now."""

    def named(digest: str) -> str:
        return f"the code {digest[:12]}" if digest else "the image's code"

    return "" if runs == wanted else f"it has {named(runs)}, not {named(wanted)}: that is not part of what makes a job"
