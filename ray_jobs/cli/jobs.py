"""The commands for jobs on a cluster: `resnet-dist jobs list|status|logs|stop|wait`."""

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from ray_jobs.cli.flags import job_flags
from ray_jobs.cli.program import COMMAND, Switch, Text, Word
from ray_jobs.job.toml import read_job

if TYPE_CHECKING:
    from ray_jobs.submission.command import SubmitCommand
    from ray_jobs.submission.watch import JobPlace

    AddressFlags = dict[str, Any]
else:
    AddressFlags = job_flags(lambda name: name == "cluster.address")

Follow = Annotated[bool, Parameter(name=("--follow", "-f"), group=COMMAND, negative=(), show_default=False)]

jobs = App(name="jobs", help="Show, follow and end jobs on a cluster.")


@jobs.command(name="list")
def list_jobs(
    *, namespace: Text = None, kube_context: Text = None, job: Annotated[AddressFlags, Parameter("*")] | None = None
) -> None:
    """List the jobs of a namespace, or of the Ray at --cluster.address, the newest first.

    Parameters
    ----------
    namespace
        By default that of the kubeconfig's context.
    kube_context
        The context of the kubeconfig; by default its current one.
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
    """Show a job's state and its reason: its place in the queue, its step and speed, or why it ended.

    Parameters
    ----------
    name
        The job's name, as `submit` and `jobs list` print it.
    json
        Print JSON.
    namespace
        By default that of the kubeconfig's context.
    kube_context
        The context of the kubeconfig; by default its current one.
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
    """Print the output of a job; if its pods are gone, the log in the run's directory.

    Parameters
    ----------
    name
        The job's name.
    follow
        Continue until the job has ended, through its retries.
    namespace
        By default that of the kubeconfig's context.
    kube_context
        The context of the kubeconfig; by default its current one.
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
    """End a job. What it has stored stays, and `submit` with the same job resumes from it.

    Parameters
    ----------
    name
        The job's name.
    namespace
        By default that of the kubeconfig's context.
    kube_context
        The context of the kubeconfig; by default its current one.
    """
    from ray_jobs import api
    from ray_jobs.terminal.console import show_line

    view = api.jobs_stop(name, _place(job, namespace, kube_context))
    show_line(f"job {view.name}: {view.state}; submitted again, it resumes from its last checkpoint")


@jobs.command
def wait(
    name: Word,
    /,
    *,
    hindered_s: Annotated[
        float,
        Parameter(
            group=COMMAND,
            help="Seconds for which pods may lack what does not come by itself (their image, a Secret, a claim, a node "
            "that could be added) before this command gives up with exit code 1 and leaves the job alone. Neither slow "
            "starts nor time in a queue count.",
        ),
    ] = 900.0,
    namespace: Text = None,
    kube_context: Text = None,
    job: Annotated[AddressFlags, Parameter("*")] | None = None,
) -> int:
    """Wait until a job has ended, print each change, and end with the job's exit code (130: it was stopped,
    143: it was preempted).

    Parameters
    ----------
    name
        The job's name.
    namespace
        By default that of the kubeconfig's context.
    kube_context
        The context of the kubeconfig; by default its current one.
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
