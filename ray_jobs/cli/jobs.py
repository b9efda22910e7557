"""The commands for jobs on a cluster: `resnet-dist jobs list|status|logs|stop|wait`."""

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from ray_jobs.cli.flags import job_flags
from ray_jobs.cli.program import COMMAND, Number, Switch, Text, Word
from ray_jobs.job.toml import read_job

if TYPE_CHECKING:
    from ray_jobs.submission.command import SubmitCommand
    from ray_jobs.submission.watch import JobPlace

    AddressFlags = dict[str, Any]
else:
    AddressFlags = job_flags(lambda name: name == "cluster.address")

Follow = Annotated[bool, Parameter(name=("--follow", "-f"), group=COMMAND, negative=(), show_default=False)]

jobs = App(name="jobs", help="Look at jobs on a cluster, wait for them, end them.")


@jobs.command(name="list")
def list_jobs(
    *, namespace: Text = None, kube_context: Text = None, job: Annotated[AddressFlags, Parameter("*")] | None = None
) -> None:
    """All jobs of a namespace, or of the Ray at --cluster.address, the newest first.

    Parameters
    ----------
    namespace
        By default that of the kubeconfig's context.
    kube_context
        Of the kubeconfig; by default its current one.
    """
    from ray_jobs import api
    from ray_jobs.cli.show_jobs import show_jobs

    show_jobs(api.jobs_list(_place(job, namespace, kube_context)))


@jobs.command
def status(
    name: Word,
    /,
    *,
    json: Switch = False,
    namespace: Text = None,
    kube_context: Text = None,
    job: Annotated[AddressFlags, Parameter("*")] | None = None,
) -> None:
    """What a job is doing and why: its place in the queue, its step and speed, or the reason of its end.

    Parameters
    ----------
    name
        The job's name, as `submit` and `jobs list` give it.
    json
        Print it for programs.
    namespace
        By default that of the kubeconfig's context.
    kube_context
        Of the kubeconfig; by default its current one.
    """
    from ray_jobs import api
    from ray_jobs.cli.show_jobs import print_json, show_job

    (print_json if json else show_job)(api.jobs_status(name, _place(job, namespace, kube_context)))


@jobs.command
def logs(
    name: Word,
    /,
    *,
    follow: Follow = False,
    namespace: Text = None,
    kube_context: Text = None,
    job: Annotated[AddressFlags, Parameter("*")] | None = None,
) -> None:
    """What a job prints; where its pods are gone, what is stored of it in the run's directory.

    Parameters
    ----------
    name
        The job's name.
    follow
        Go on until the job has ended, through its retries.
    namespace
        By default that of the kubeconfig's context.
    kube_context
        Of the kubeconfig; by default its current one.
    """
    from ray_jobs import api
    from ray_jobs.cli.show_jobs import print_line

    for line in api.jobs_logs(name, _place(job, namespace, kube_context), follow=follow):
        print_line(line)


@jobs.command
def stop(
    name: Word,
    /,
    *,
    namespace: Text = None,
    kube_context: Text = None,
    job: Annotated[AddressFlags, Parameter("*")] | None = None,
) -> None:
    """End a job. What it has stored stays, and `submit` with the same job goes on with it.

    Parameters
    ----------
    name
        The job's name.
    namespace
        By default that of the kubeconfig's context.
    kube_context
        Of the kubeconfig; by default its current one.
    """
    from ray_jobs import api
    from ray_jobs.terminal.console import show_line

    view = api.jobs_stop(name, _place(job, namespace, kube_context))
    show_line(f"job {view.name}: {view.state}; submitted again, it goes on from its last checkpoint")


@jobs.command
def wait(
    name: Word,
    /,
    *,
    hindered_s: Number = 900.0,
    namespace: Text = None,
    kube_context: Text = None,
    job: Annotated[AddressFlags, Parameter("*")] | None = None,
) -> int:
    """Wait until a job has ended, a line for each change, and end with its own exit code (130: it was stopped).

    Parameters
    ----------
    name
        The job's name.
    hindered_s
        Seconds for which its pods may be kept from starting (an image that cannot be pulled, a missing secret) before
        this gives up with exit code 1; the job is left as it is. Waiting in a queue does not count.
    namespace
        By default that of the kubeconfig's context.
    kube_context
        Of the kubeconfig; by default its current one.
    """
    from ray_jobs import api
    from ray_jobs.terminal.console import show_line

    return api.jobs_wait(name, _place(job, namespace, kube_context), hindered_s=hindered_s, say=show_line)


def run_elsewhere(command: "SubmitCommand") -> int:
    """Run a command on the Ray at cluster.address as if it ran here: its output, and its exit code."""
    from ray_jobs import api
    from ray_jobs.cli.show_jobs import print_line, say

    return api.run_on_ray(command, print_line=print_line, say=say)


def _place(flags: dict[str, Any] | None, namespace: str | None, context: str | None) -> "JobPlace":
    from ray_jobs.submission.watch import JobPlace

    return JobPlace(read_job(None, flags or {}).cluster.address, namespace, context)
