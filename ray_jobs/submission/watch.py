"""Jobs on a cluster, seen from here: their states, their output, their ends. Prints nothing."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from cluster.errors import StorageError
from cluster.jobs import JobTarget, JobView
from cluster.storage.store import Store
from ray_jobs.exit_codes import NOT_TRIED_AGAIN, ExitCode
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.driver_log import DriverBegin, DriverEnd, read_begin, read_end, read_log
from ray_jobs.submission.environment import is_ray_jobs_address
from resnet_dist.run_records import Status


@dataclass(frozen=True)
class LiveView:
    """A job, and the records of its run where they can be read from here."""

    view: JobView
    status: Status | None
    end: DriverEnd | None
    """How its newest ended attempt ended."""
    verb: str = ""
    """The command that it runs: the job's verb, or what follows it."""


@dataclass(frozen=True)
class JobPlace:
    """Where jobs are looked for: the Ray at an http:// address, else Kubernetes."""

    address: str | None = None
    namespace: str | None = None
    """None: that of the kubeconfig's context."""
    context: str | None = None
    """Of the kubeconfig; None: its current one."""

    def target(self) -> JobTarget:
        """The jobs there."""
        if self.address is not None and is_ray_jobs_address(self.address):
            from cluster.jobs_api.target import RayJobsTarget  # noqa: PLC0415 - Ray, where Kubernetes needs none

            return RayJobsTarget(self.address)
        from cluster.kube.client.api import KubeApi  # noqa: PLC0415 - and the other way round
        from cluster.kube.jobs.target import KubeTarget  # noqa: PLC0415

        return KubeTarget(KubeApi.connect(self.context, self.namespace))


class RunReader:
    """Reads the records of runs. A run that cannot be read from here is tried once, since each try takes long."""

    def __init__(self) -> None:
        self._unreadable: set[str] = set()

    def live(self, view: JobView) -> LiveView:
        """A job with its run's status, or without where the run cannot be read from here."""
        if not view.run or view.run in self._unreadable:
            return LiveView(view, None, None)
        try:
            run = Store.open(view.run)
            run.exists("status.json")
        except StorageError:
            self._unreadable.add(view.run)
            return LiveView(view, None, None)
        status, end = RunDirectory(run).read_status(), read_end(run, view.submission)
        begin = read_begin(run, view.submission)
        if view.state in {"failed", "stopped"} and end is not None and end.exit_code:
            view = replace(view, exit_code=end.exit_code, reason=view.reason or end.last_line)
        if view.state == "running" and begin is not None:
            view = _of_attempt(view, begin, end)
        mine = status is not None and status.submission == view.submission
        return LiveView(view, status if mine else None, end, view.verb if begin is None else begin.verb)


def _of_attempt(view: JobView, begin: DriverBegin, end: DriverEnd | None) -> JobView:
    """A running job with what its entry point says: which attempt it is, and why there was another one."""
    reason = ""
    if end is not None and end.exit_code != ExitCode.DONE:
        reason = f"the attempt before ended with exit code {end.exit_code}: {end.last_line}"
    waits = end is not None and end.attempt >= begin.attempt and end.exit_code not in NOT_TRIED_AGAIN
    if waits and begin.tried < begin.most:
        return replace(view, state="retrying", attempt=begin.tried, reason=reason)
    if begin.tried > 1:
        return replace(view, attempt=begin.tried, reason=view.reason or reason)
    return view


def exit_code_of(view: JobView) -> int:
    """The exit code of a job that has ended: its own, as it wrote it down or as the cluster names it."""
    match view.state:
        case "done":
            return ExitCode.DONE
        case "stopped":
            return ExitCode.INTERRUPTED
        case _:
            return view.exit_code or ExitCode.FAILED


def wait_for(target: JobTarget, name: str, *, hindered_s: float, say: Callable[[str], None]) -> int:
    """Follow a job to its end, with a line to `say` for each change; returns its exit code.

    Returns 1 when its pods could not start for `hindered_s`, for want of something that does not come by itself.
    """
    runs, hindered_since, shown = RunReader(), None, ""
    for view in target.follow(name):
        live = runs.live(view)
        line = one_line(live)
        if line != shown:
            say(line)
        shown = line
        if view.ended:
            return exit_code_of(live.view)
        hindered_since = (hindered_since or time.monotonic()) if view.hindered else None
        if hindered_since is not None and time.monotonic() - hindered_since > hindered_s:
            say(f"given up after {hindered_s:g} s; the job is left as it is: resnet-dist jobs stop {name}")
            return ExitCode.FAILED
    return exit_code_of(runs.live(target.view(name)).view)


def log_lines(target: JobTarget, name: str, *, follow: bool) -> Iterator[str]:
    """The lines that a job's driver prints; the stored ones where its pods are gone."""
    view = target.view(name)
    any_line = False
    for line in target.logs(name, follow=follow):
        any_line = True
        yield line
    if any_line or not view.run:
        return
    text = read_log(Store.open(view.run), view.submission)
    if text:
        yield f"(as stored in {view.run}/logs)"
        yield from text.removesuffix("\n").split("\n")
    else:
        yield f"job {name} ({view.state}) has printed nothing yet{f': {view.reason}' if view.reason else ''}"


def described(view: JobView) -> str:
    """A job's state in a few words."""
    attempt = f", attempt {view.attempt}" if view.attempt > 1 else ""
    return f"{view.state}{attempt}{f' ({view.reason})' if view.reason else ''}"


def one_line(live: LiveView) -> str:
    """A job in a line."""
    view = live.view
    parts = [f"{view.name}: {view.state}"]
    if view.attempt > 1:
        parts.append(f"attempt {view.attempt}")
    if view.position is not None:
        parts.append(f"{view.position} before it")
    if view.state == "running" and live.verb not in {"", view.verb}:
        parts.append(f"{view.verb} is done, {live.verb} runs")
    elif view.state == "running" and live.status is not None:
        parts += progress_of(live.status)
    if view.state in {"failed", "stopped"} and view.exit_code is not None:
        parts.append(f"exit code {view.exit_code}")
    return ", ".join(parts) + (f" ({view.reason})" if view.reason else "")


def progress_of(status: Status) -> list[str]:
    """How far a run is: epoch, step, speed, what is left."""
    parts = [f"epoch {status.epoch} of {status.epochs}", f"step {status.step}"]
    if status.images_per_second is not None:
        parts.append(f"{status.images_per_second:.0f} images/s")
    if status.eta_s is not None:
        parts.append(f"{status.eta_s:.0f} s left")
    return parts
