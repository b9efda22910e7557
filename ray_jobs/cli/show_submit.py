"""What `submit` prints: the job that was submitted, or its objects."""

import shlex
import sys

from cluster.jobs import JobRequest, JobView
from cluster.kube.jobs.manifest import JobManifest
from ray_jobs.submission.submit import PoolJob, RayJob, as_yaml
from ray_jobs.terminal.console import show_line


def show_pool_job(job: PoolJob) -> None:
    """A job that was just submitted to Kubernetes: where it is, how large, where it writes, and what to type next."""
    request, flags = job.plan.request, job.plan.flags
    where = f"namespace {job.namespace}" + (f", queue {flags.queue}" if flags.queue else ", without a queue")
    show_line(f"job {request.name} {_what(job.view, request.submission)}: {where}")
    show_line(f"  {job.plan.placement.sizes.stated()}")
    place = f" --namespace {job.namespace}" if flags.namespace else ""
    place += f" --kube-context {shlex.quote(flags.context)}" if flags.context else ""
    _show_work(request)
    show_line(f"  resnet-dist jobs logs {request.name} -f{place}")
    show_line(f"  resnet-dist jobs wait {request.name}{place}")


def show_ray_job(job: RayJob) -> None:
    """The same of a job on a running Ray."""
    name = job.request.name
    show_line(f"job {name} {_what(job.view, job.request.submission)}: {job.address}")
    _show_work(job.request)
    place = f"{name} --cluster.address {shlex.quote(job.address)}"
    show_line(f"  resnet-dist jobs logs {place} -f")
    show_line(f"  resnet-dist jobs wait {place}")


def _show_work(request: JobRequest) -> None:
    show_line(f"  writes to {request.run}")
    if request.then:
        show_line(f"  then, in the same job: {shlex.join(request.then)}")


def print_objects(manifest: JobManifest) -> None:
    """A job's objects as YAML."""
    sys.stdout.write(as_yaml(manifest))


def _what(view: JobView, submission: str) -> str:
    return "submitted" if view.submission == submission else f"is there already ({view.state})"
