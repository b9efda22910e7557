"""The commands about shares of the GPUs: queue create, queue show, queue usage."""

import sys
from typing import Annotated

from cyclopts import App, Parameter

from ray_jobs.cli.duration import seconds_in
from ray_jobs.cli.flags import StorageFlags
from ray_jobs.cli.program import COMMAND, DryRun, File, Switch, Text, Word, strategy_of
from ray_jobs.errors import ConfigError
from ray_jobs.job.toml import read_job

queue = App(name="queue", help="Give each team a share of the GPUs of a Kubernetes cluster, and show how it is used.")

Names = Annotated[
    tuple[str, ...],
    Parameter(group=COMMAND, consume_multiple=True, negative_iterable=(), show_default=False, metavar="NAME..."),
]


@queue.command
def create(
    team: Word,
    /,
    *,
    config: File = None,
    print_team: Switch = False,
    dry_run: DryRun = "none",
    output: File = None,
    kube_context: Text = None,
) -> None:
    """Create a team's namespace, queue and rights, or update them to its file. Deletes nothing.

    Parameters
    ----------
    team
        The name of the team and of its queue.
    config
        The team's TOML file; --print-team shows its form.
    print_team
        Print a complete team as TOML, by default an example, with a comment for every key, and stop.
    dry_run
        client prints the objects as YAML, without a cluster; server lets the cluster say what would change. Both stop.
    output
        Write the objects to this YAML file, for an administrator to apply, and stop.
    kube_context
        The context of the kubeconfig; by default its current one, or in a pod the pod's own.
    """
    from ray_jobs.job.team_toml import example_team, read_team
    from ray_jobs.job.team_toml import print_team as printed

    if print_team:
        sys.stdout.write(printed(example_team(team) if config is None else read_team(config, team)))
        return
    if config is None:
        raise ConfigError(
            f"--config is missing: the file with the share of team {team}; write one to begin with: `resnet-dist queue "
            f"create {team} --print-team > {team}.toml`"
        )
    strategy = strategy_of(dry_run)
    wanted = read_team(config, team)
    from cluster.kube.client.api import MANAGER
    from ray_jobs import api
    from ray_jobs.cli.show_queue import show_applied
    from ray_jobs.terminal.console import show_line
    from ray_jobs.terminal.output_file import output_file

    if output is not None:
        with output_file(output) as stream:
            stream.write(api.queue_objects(wanted).as_yaml().encode())
        show_line(f"apply it with: kubectl apply --server-side --field-manager={MANAGER} -f {output}")
    elif strategy == "client":
        sys.stdout.write(api.queue_objects(wanted).as_yaml())
    if strategy == "server" or (strategy == "none" and output is None):
        applied = api.queue_create(wanted, context=kube_context, dry_run=strategy == "server")
        show_applied(wanted, applied, dry_run=strategy == "server")


@queue.command
def show(
    team: Text = None,
    /,
    *,
    json: Switch = False,
    kube_context: Text = None,
) -> None:
    """Show what a team owns, uses, borrows and lends, and why its jobs wait; without a team, list all queues.

    Parameters
    ----------
    team
        The team's name.
    json
        Print JSON.
    kube_context
        The context of the kubeconfig; by default its current one, or in a pod the pod's own.
    """
    from ray_jobs import api
    from ray_jobs.cli.show_queue import as_json, show_queue, show_queues

    if team is None:
        found = api.queue_list(context=kube_context)
        sys.stdout.write(as_json(found)) if json else show_queues(found)
    else:
        view = api.queue_show(team, context=kube_context)
        sys.stdout.write(as_json(view)) if json else show_queue(view)


@queue.command
def usage(
    *,
    since: Word = "30d",
    team: Names = (),
    json: Switch = False,
    kube_context: Text = None,
    job: Annotated[StorageFlags, Parameter("*")] | None = None,
) -> None:
    """Show the GPU hours that teams and jobs used, borrowed, lent and waited for.

    They are read from Kueue's Workloads, which go when their jobs are deleted; --storage.root adds what runs
    there have recorded of deleted jobs. MIG devices and shared GPUs are counted apart from whole GPUs.

    Parameters
    ----------
    since
        How far back: hours, days or weeks, such as 12h, 30d or 2w.
    team
        Show these teams only.
    json
        Print JSON.
    kube_context
        The context of the kubeconfig; by default its current one, or in a pod the pod's own.
    """
    since_s = seconds_in(since, "--since")
    root = read_job(None, job).storage.root if job else None
    from ray_jobs import api
    from ray_jobs.cli.show_usage import show_usage, usage_as_json

    found = api.queue_usage(since_s, team, root, context=kube_context)
    sys.stdout.write(usage_as_json(found)) if json else show_usage(found)
