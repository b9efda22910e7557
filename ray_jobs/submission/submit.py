"""Applies a SubmitCommand: creates its objects on Kubernetes, or starts it on a running Ray. Prints nothing."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from cluster.errors import NoSuchObjectError, SubmissionError, TargetUnreachableError
from cluster.jobs import JobRequest, JobView
from cluster.kube.client.api import KubeApi
from cluster.kube.client.kinds import NAMESPACE, RAY_JOB
from cluster.kube.jobs.manifest import JobManifest
from cluster.kube.jobs.target import KubeTarget
from cluster.kube.queues.admission import check_priority, check_queue
from cluster.kube.queues.apply import storage_of
from ray_jobs.exit_codes import exit_code_of as exit_code_for
from ray_jobs.submission.command import PoolFlags, SubmitCommand
from ray_jobs.submission.plan import PoolPlan, plan_for_pool
from ray_jobs.submission.request import ray_request
from ray_jobs.submission.watch import described, exit_code_of

Say = Callable[[str], None]
"""Takes a line that a person should see while a function works."""


@dataclass(frozen=True)
class PoolJob:
    """A job on Kubernetes."""

    plan: PoolPlan
    view: JobView
    namespace: str


@dataclass(frozen=True)
class RayJob:
    """A job on a running Ray."""

    request: JobRequest
    view: JobView
    address: str


def submit_to_pool(command: SubmitCommand, flags: PoolFlags, say: Say) -> PoolJob:
    """Start the job on Kubernetes, or find it there."""
    plan = plan_for_pool(command, flags)
    api = KubeApi.connect(flags.context, plan.flags.namespace)
    _check_pool(api, plan, say)
    manifest = plan.manifest(api.namespace, storage_of(api, plan.flags.queue))
    return PoolJob(plan, KubeTarget(api, lambda _: manifest, say).submit(plan.request), api.namespace)


def objects_of(command: SubmitCommand, flags: PoolFlags, say: Say, *, server: bool) -> JobManifest:
    """The job's objects, none of them created. `server`: the API server checks them first, and refuses as it would."""
    plan = plan_for_pool(command, flags)
    if not server:
        return plan.manifest(plan.placement.namespace)
    api = KubeApi.connect(flags.context, plan.flags.namespace)
    _check_pool(api, plan, say)
    manifest = plan.manifest(api.namespace, storage_of(api, plan.flags.queue))
    KubeTarget(api, lambda _: manifest).check(plan.request)
    return manifest


def as_yaml(manifest: JobManifest) -> str:
    """The objects as YAML documents, for `kubectl apply -f -`."""
    return yaml.safe_dump_all([manifest.config_map, manifest.ray_job], sort_keys=False, width=120)


def submit_to_ray(command: SubmitCommand, working_tree: Path | None) -> RayJob:
    """Start the job on the Ray at cluster.address, or find it there."""
    from cluster.jobs_api.target import RayJobsTarget  # noqa: PLC0415 - Ray, where Kubernetes needs none

    address, request = str(command.job.cluster.address), ray_request(command)
    view = RayJobsTarget(address, working_tree=working_tree).submit(request)
    return RayJob(request, view, address)


def run_on_ray(command: SubmitCommand, print_line: Say, say: Say) -> int:
    """Run a command on the Ray at cluster.address as if it ran here; returns its own exit code.

    `print_line` gets each line that it prints, `say` what a person should know besides. Ctrl-C leaves the job as it is
    and returns 130, SIGTERM likewise and returns 143. Raises SubmissionError or TargetUnreachableError.
    """
    from cluster.jobs_api.target import RayJobsTarget  # noqa: PLC0415

    target, request = RayJobsTarget(str(command.job.cluster.address)), ray_request(command)
    name = request.name
    where = f"{shlex.quote(name)} --cluster.address {shlex.quote(target.address)}"
    ways = f"look again: resnet-dist jobs logs {where} --follow; stop it: resnet-dist jobs stop {where}"
    view = target.submit(request)
    say(f"job {name} on {target.address} is {described(view)}")
    try:
        for line in target.logs(name, follow=True):
            print_line(line)
        for view in target.follow(name):  # noqa: B007 - the last one counts
            pass
    except KeyboardInterrupt as error:
        say(f"job {name} goes on; {ways}")
        return exit_code_for(error)
    except TargetUnreachableError:
        say(f"job {name} may go on; {ways}")
        raise
    say(f"job {name} is {described(view)}")
    return exit_code_of(view)


def _check_pool(api: KubeApi, plan: PoolPlan, say: Say) -> None:
    """Raise SubmissionError where the job could wait forever: no operator, no queue, more than the queue can give."""
    api.require(RAY_JOB)
    flags = plan.flags
    if api.may("get", NAMESPACE, api.namespace):
        try:
            api.get(NAMESPACE, api.namespace)
        except NoSuchObjectError as error:
            raise SubmissionError(
                f"there is no namespace {api.namespace}; `resnet-dist queue create {api.namespace}` makes one for a "
                "team, or name another with --namespace"
            ) from error
    if flags.queue is None:
        return
    doubts = check_queue(api, flags.queue, api.namespace, plan.manifest(api.namespace).ray_job)
    if flags.priority is not None:
        doubts += check_priority(api, flags.priority)
    for doubt in doubts:
        say(f"note: {doubt}")
