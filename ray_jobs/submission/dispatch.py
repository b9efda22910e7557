"""Hands a job to where it runs: Kubernetes, or a Ray that runs already."""

import shlex
import sys
from pathlib import Path

import yaml

from cluster.errors import NoSuchObjectError, SubmissionError
from cluster.kube.client.api import KubeApi
from cluster.kube.client.kinds import NAMESPACE, RAY_JOB
from cluster.kube.jobs.target import KubeTarget
from cluster.kube.queues.apply import storage_of
from cluster.kube.queues.capacity import check_priority, fits
from cluster.kube.queues.team import Storage
from ray_jobs.submission.plan import Asked, PoolFlags, Submission, describe, pool_submission, ray_request
from ray_jobs.terminal.console import show_line


def submit_to_pool(asked: Asked, flags: PoolFlags) -> None:
    """Start the job on Kubernetes, or find that it is there; says where, how large, and what to type next."""
    submission = pool_submission(asked, flags)
    api = KubeApi.connect(flags.context, submission.flags.namespace)
    check_pool(api, submission)
    storage = storage_of(api, submission.flags.queue)
    view = KubeTarget(api, lambda _: submission.manifest(api.namespace, storage)).submit(submission.request)
    for line in describe(submission, view, api.namespace):
        show_line(line)


def print_objects(asked: Asked, flags: PoolFlags, *, server: bool) -> None:
    """The job's objects as YAML. `server`: the API server checks them first, with all that would refuse them."""
    submission = pool_submission(asked, flags)
    namespace, storage = submission.flags.namespace or "default", Storage()
    if server:
        api = KubeApi.connect(flags.context, submission.flags.namespace)
        namespace = api.namespace
        check_pool(api, submission)
        storage = storage_of(api, submission.flags.queue)
        KubeTarget(api, lambda _: submission.manifest(namespace, storage)).check(submission.request)
    manifest = submission.manifest(namespace, storage)
    yaml.safe_dump_all([manifest.config_map, manifest.ray_job], sys.stdout, sort_keys=False, width=120)


def submit_to_ray(asked: Asked, working_tree: Path | None) -> None:
    """Start the job on the Ray at cluster.address, or find that it is there."""
    from cluster.jobs_api.target import RayJobsTarget  # noqa: PLC0415 - Ray, where Kubernetes needs none

    address = str(asked.job.cluster.address)
    request = ray_request(asked)
    view = RayJobsTarget(address, working_tree=working_tree).submit(request)
    what = "submitted" if view.submission == request.submission else f"is there already ({view.state})"
    show_line(f"job {request.name} {what}: {address}")
    show_line(f"  writes to {request.run}")
    there = f"{request.name} --cluster.address {shlex.quote(address)}"
    show_line(f"  resnet-dist jobs logs {there} -f")
    show_line(f"  resnet-dist jobs wait {there}")


def run_elsewhere(asked: Asked) -> int:
    """Run a command on the Ray at cluster.address as if it ran here: its output, and its exit code."""
    from cluster.jobs_api.target import RayJobsTarget  # noqa: PLC0415
    from ray_jobs.submission.remote_run import run_remotely  # noqa: PLC0415

    target = RayJobsTarget(str(asked.job.cluster.address))
    return run_remotely(target, ray_request(asked), _say)


def check_pool(api: KubeApi, submission: Submission) -> None:
    """Raise SubmissionError for what would let the job wait for ever: no operator, no queue, more than it can give."""
    api.require(RAY_JOB)
    flags = submission.flags
    if api.may("get", NAMESPACE):
        try:
            api.get(NAMESPACE, api.namespace)
        except NoSuchObjectError as error:
            raise SubmissionError(
                f"there is no namespace {api.namespace}; `resnet-dist queue create {api.namespace}` makes one for a "
                "team, or name another with --namespace"
            ) from error
    if flags.queue is None:
        return
    doubts = [fits(api, flags.queue, api.namespace, submission.sizes.requested())]
    if flags.priority is not None:
        doubts.append(check_priority(api, flags.priority))
    for doubt in doubts:
        if doubt is not None:
            sys.stderr.write(f"note: {doubt}\n")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
