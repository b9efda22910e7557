"""The commands for jobs on a cluster: `submit`, and `jobs list|status|logs|stop|wait`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from ray_jobs.cli.dry_run_flag import DryRun, DryRunServer
from ray_jobs.cli.flags import job_flags
from ray_jobs.cli.program import COMMAND as _COMMAND
from ray_jobs.errors import ConfigError
from ray_jobs.job.toml import read_job, read_job_and_overrides
from ray_jobs.job.verb_fields import of_evaluation, of_export
from ray_jobs.submission.environment import is_ray_jobs_address

if TYPE_CHECKING:
    JobFlags = dict[str, Any]
    AddressFlags = dict[str, Any]
else:
    JobFlags = job_flags()
    AddressFlags = job_flags(lambda name: name == "cluster.address")

Name = Annotated[str, Parameter(group=_COMMAND)]
Text = Annotated[str | None, Parameter(group=_COMMAND, show_default=False)]

Follow = Annotated[bool, Parameter(name=("--follow", "-f"), group=_COMMAND, negative=(), show_default=False)]

jobs = App(name="jobs", help="Look at jobs on a cluster, wait for them, end them.")


def submit(
    verb: Annotated[Literal["train", "tune", "evaluate", "export"], Parameter(group=_COMMAND)],
    run: Annotated[str | None, Parameter(group=_COMMAND, show_default=False)] = None,
    /,
    *,
    config: Annotated[Path | None, Parameter(group=_COMMAND, show_default=False)] = None,
    search: Annotated[Path | None, Parameter(group=_COMMAND, show_default=False)] = None,
    warm_start: Text = None,
    split: Text = None,
    checkpoint: Text = None,
    formats: Text = None,
    team: Text = None,
    namespace: Text = None,
    queue: Text = None,
    priority: Text = None,
    image: Text = None,
    kube_context: Text = None,
    working_tree: Annotated[Path | None, Parameter(group=_COMMAND, show_default=False)] = None,
    dry_run: Annotated[DryRun, Parameter(group=_COMMAND)] = False,
    dry_run_server: Annotated[DryRunServer, Parameter(group=_COMMAND)] = False,
    job: Annotated[JobFlags, Parameter("*")] | None = None,
) -> None:
    """Run a command as a job on Kubernetes, in a team's queue, or with --cluster.address http://HOST:8265 on any Ray.

    The same name and job again is the same job: one that goes on is left alone, one that failed resumes.

    Parameters
    ----------
    verb
        What to run.
    run
        For evaluate and export: the run, as a name under storage.root, a URI, or a path that the cluster has, too.
    config
        The job's TOML file.
    search
        For tune: the search's TOML file.
    warm_start
        For tune: an earlier search.
    split
        For evaluate: train, val or test.
    checkpoint
        For evaluate and export: best, last, or the number of a step.
    formats
        For export: names with commas between them.
    team
        Stands for the namespace and the queue of that name.
    namespace
        By default the team's, else that of the kubeconfig's context.
    queue
        A Kueue LocalQueue of the namespace; without one, and without a team, the job does not wait in line.
    priority
        A Kueue WorkloadPriorityClass: production, research or idle.
    image
        NAME:VERSION or NAME@sha256:DIGEST; by default the one that the manifests name.
    kube_context
        Of the kubeconfig; by default its current one.
    working_tree
        With --cluster.address http://...: a checkout whose code the job is to run.
    dry_run
        Print the objects as YAML and stop; --dry-run=server lets the API server check them first.
    dry_run_server
        The same as --dry-run=server.
    """
    words = {"--split": split, "--checkpoint": checkpoint, "--formats": formats}
    _check_options(verb, run, {**words, "--search": search, "--warm-start": warm_start})
    from ray_jobs.submission.dispatch import print_objects, submit_to_pool, submit_to_ray
    from ray_jobs.submission.plan import Asked, PoolFlags

    resolved = read_job(config, job or {})
    if verb in {"evaluate", "export"}:
        wanted = of_evaluation if verb == "evaluate" else of_export
        options = tuple(word for flag, value in words.items() if value is not None for word in (flag, value))
        resolved, overrides = read_job_and_overrides(config, job or {}, wanted)
        asked = Asked(verb, resolved, run=str(run), options=options, overrides=overrides)
    elif verb == "tune":
        from ray_jobs.search.toml import read_search

        asked = Asked(verb, resolved, search=read_search(search, {}), warm_start=warm_start)
    else:
        asked = Asked(verb, resolved)
    flags = PoolFlags(team, namespace, queue, priority, image, kube_context)
    if is_ray_jobs_address(resolved.cluster.address):
        flags.check_none_given(str(resolved.cluster.address))
        if dry_run or dry_run_server:
            raise ConfigError("--dry-run shows Kubernetes objects; a Ray at an address is given none")
        submit_to_ray(asked, working_tree)
    elif working_tree is not None:
        raise ConfigError(
            "--working-tree is for a running Ray (--cluster.address http://HOST:8265); pods have an image"
        )
    elif dry_run or dry_run_server:
        print_objects(asked, flags, server=dry_run_server)
    else:
        submit_to_pool(asked, flags)


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
    from ray_jobs.cli.show_jobs import show_jobs
    from ray_jobs.submission.watch import target_of

    show_jobs(target_of(read_job(None, job or {}), namespace, kube_context).list())


@jobs.command
def status(
    name: Name,
    /,
    *,
    json: Annotated[bool, Parameter(group=_COMMAND, negative=(), show_default=False)] = False,
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
    from ray_jobs.cli.show_jobs import print_json, show_job
    from ray_jobs.submission.watch import RunReader, target_of

    view = RunReader().live(target_of(read_job(None, job or {}), namespace, kube_context).view(name))
    (print_json if json else show_job)(view)


@jobs.command
def logs(
    name: Name,
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
    from ray_jobs.submission.watch import print_logs, target_of

    print_logs(target_of(read_job(None, job or {}), namespace, kube_context), name, follow=follow)


@jobs.command
def stop(
    name: Name,
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
    from ray_jobs.submission.watch import target_of
    from ray_jobs.terminal.console import show_line

    view = target_of(read_job(None, job or {}), namespace, kube_context).stop(name)
    show_line(f"job {view.name}: {view.state}; submitted again, it goes on from its last checkpoint")


@jobs.command
def wait(
    name: Name,
    /,
    *,
    hindered_s: Annotated[float, Parameter(group=_COMMAND)] = 900.0,
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
    from ray_jobs.submission.watch import target_of, wait_for

    return wait_for(target_of(read_job(None, job or {}), namespace, kube_context), name, hindered_s=hindered_s)


def _check_options(verb: str, run: str | None, options: dict[str, object]) -> None:
    takes = {
        "train": set[str](),
        "tune": {"--search", "--warm-start"},
        "evaluate": {"--split", "--checkpoint"},
        "export": {"--formats", "--checkpoint"},
    }
    on_run = verb in {"evaluate", "export"}
    if on_run and run is None:
        raise ConfigError(f"submit {verb} needs a RUN: a name under storage.root, a URI or a path")
    if not on_run and run is not None:
        raise ConfigError(f"submit {verb} {run}: {verb} works on no run; its name is --name")
    for flag, value in options.items():
        if value is not None and flag not in takes[verb]:
            raise ConfigError(f"{flag} says nothing to {verb}; leave it away")
