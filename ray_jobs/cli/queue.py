"""The commands about shares of the GPUs: queue create, queue show."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ray_jobs.cli.dry_run_flag import DryRun, DryRunServer
from ray_jobs.cli.program import COMMAND as _COMMAND
from ray_jobs.errors import ConfigError
from resnet_dist.runtime.errors import RuntimeMissingError

queue = App(
    name="queue", help="Give teams their share of the GPUs of a Kubernetes cluster, and see what becomes of it."
)

Context = Annotated[str | None, Parameter(group=_COMMAND, show_default=False)]


@queue.command
def create(
    team: Annotated[str, Parameter(group=_COMMAND)],
    /,
    *,
    config: Annotated[Path | None, Parameter(group=_COMMAND, show_default=False)] = None,
    print_team: Annotated[bool, Parameter(group=_COMMAND, negative=(), show_default=False)] = False,
    dry_run: Annotated[DryRun, Parameter(group=_COMMAND)] = False,
    dry_run_server: Annotated[DryRunServer, Parameter(group=_COMMAND)] = False,
    output: Annotated[Path | None, Parameter(group=_COMMAND, show_default=False)] = None,
    kube_context: Context = None,
) -> None:
    """Make a team's namespace, queue and rights, or change them to what its file says now. Deletes nothing.

    Parameters
    ----------
    team
        The team's name, which is also that of its queue.
    config
        The team's TOML file; --print-team shows its form.
    print_team
        Print a complete team as TOML, an example without --config, every key with what it does, and stop.
    dry_run
        Print the objects as YAML and stop; no cluster is needed.
    dry_run_server
        Let the cluster check everything, say what would change, and change nothing.
    output
        Write the objects to this YAML file, for an admin to apply, and stop.
    kube_context
        The context of the kubeconfig; by default its current one, in a pod the pod's own.
    """
    from ray_jobs.job.team_toml import example_team, read_team
    from ray_jobs.job.team_toml import print_team as printed

    if print_team:
        sys.stdout.write(printed(example_team(team) if config is None else read_team(config, team)))
        return
    if config is None:
        raise ConfigError(
            f"--config is missing: the file that says what team {team} gets. `resnet-dist queue create {team} "
            f"--print-team > {team}.toml` writes one to begin with"
        )
    asked = read_team(config, team)
    _require_client()
    from cluster.kube.client.api import MANAGER, KubeApi
    from cluster.kube.queues.apply import apply_team, render_team
    from ray_jobs.cli.show_queue import show_applied
    from ray_jobs.terminal.console import show_line
    from ray_jobs.terminal.output_file import output_file

    if dry_run or output is not None:
        text = render_team(asked).as_yaml()
        if output is not None:
            with output_file(output) as stream:
                stream.write(text.encode())
            show_line(f"apply it with: kubectl apply --server-side --field-manager={MANAGER} -f {output}")
        else:
            sys.stdout.write(text)
        if not dry_run_server:
            return
    applied = apply_team(KubeApi.connect(kube_context), asked, dry_run=dry_run_server)
    show_applied(asked, applied, dry_run=dry_run_server)


@queue.command
def show(
    team: Annotated[str | None, Parameter(group=_COMMAND, show_default=False)] = None,
    /,
    *,
    json: Annotated[bool, Parameter(group=_COMMAND, negative=(), show_default=False)] = False,
    kube_context: Context = None,
) -> None:
    """Show what a team owns, uses, borrows and lends, and which of its jobs wait and why; without a team, all queues.

    Parameters
    ----------
    team
        The team's name.
    json
        Print it as JSON.
    kube_context
        The context of the kubeconfig; by default its current one, in a pod the pod's own.
    """
    _require_client()
    from cluster.kube.client.api import KubeApi
    from cluster.kube.queues.view import list_queues, view_queue
    from ray_jobs.cli.show_queue import as_json, show_queue, show_queues

    api = KubeApi.connect(kube_context)
    if team is None:
        found = list_queues(api)
        sys.stdout.write(as_json(found)) if json else show_queues(found)
    else:
        view = view_queue(api, team)
        sys.stdout.write(as_json(view)) if json else show_queue(view)


def _require_client() -> None:
    """The base install has no client of Kubernetes."""
    if find_spec("kubernetes") is None:
        raise RuntimeMissingError("queues need the package kubernetes; pip install 'resnet-dist[cluster]'")
