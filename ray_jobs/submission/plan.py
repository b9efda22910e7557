"""`resnet-dist submit`: a job on Kubernetes, from the same job file that runs on a laptop."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cluster.jobs import JobRequest, JobView, Verb
from cluster.kube.jobs.manifest import CLAIM, MOUNT, SECRET, JobManifest, Placement, render_job
from cluster.kube.jobs.names import check_image, check_label
from cluster.kube.jobs.sizing import JobNeeds, PodSizes, driver_only_sizes, pod_sizes
from cluster.kube.queues.team import Storage
from cluster.storage.store import absolute_root
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml_codec import merged
from ray_jobs.search.config import SearchConfig
from ray_jobs.search.space import Space
from ray_jobs.submission.request import check_reachable, request_on_run, search_request, training_request


@dataclass(frozen=True)
class PoolFlags:
    """Where in a shared pool a job goes, as the command line says it."""

    team: str | None = None
    namespace: str | None = None
    queue: str | None = None
    priority: str | None = None
    image: str | None = None
    context: str | None = None

    def check_none_given(self, address: str) -> None:
        """Raise ConfigError where a flag speaks of Kubernetes and the job goes to a Ray at an address."""
        given = [f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value is not None]
        if given:
            raise ConfigError(
                f"{', '.join(given)} say where on Kubernetes a job goes, and cluster.address={address} is a Ray that "
                "runs already; leave one of them away"
            )

    def checked(self) -> "PoolFlags":
        """With what a team stands for: its namespace and its queue. Raises SubmissionError for names that cannot be."""
        for flag, value in (
            ("--team", self.team),
            ("--namespace", self.namespace),
            ("--queue", self.queue),
            ("--priority", self.priority),
        ):
            if value is not None:
                check_label(value, flag)
        if self.image is not None:
            check_image(self.image)
        if self.priority is not None and self.queue is None and self.team is None:
            raise ConfigError(f"--priority {self.priority} orders jobs of a queue; name it with --team or --queue")
        return replace(self, namespace=self.namespace or self.team, queue=self.queue or self.team)


@dataclass(frozen=True)
class Submission:
    """A job that is ready to be submitted."""

    request: JobRequest
    sizes: PodSizes
    use_gpu: bool
    flags: PoolFlags
    mounts_claim: bool = False

    def manifest(self, namespace: str, storage: Storage | None = None) -> JobManifest:
        """Its Kubernetes objects; `storage`: what the queue's team keeps its storage by."""
        return render_job(self.request, self.placement(namespace, storage))

    def placement(self, namespace: str, storage: Storage | None = None) -> Placement:
        """Where and how large it runs."""
        named = storage or Storage()
        return Placement(
            namespace=namespace,
            sizes=self.sizes,
            use_gpu=self.use_gpu,
            image=self.flags.image,
            queue=self.flags.queue,
            priority=self.flags.priority,
            mounts_claim=self.mounts_claim,
            claim=named.claim or CLAIM,
            secret=named.secret or SECRET,
        )


@dataclass(frozen=True)
class Asked:
    """What is to be run, as the command line says it."""

    verb: Verb
    job: JobConfig
    """The whole job; for evaluate and export, what the overrides come to with defaults."""
    search: tuple[SearchConfig, Space] | None = None
    """For tune."""
    warm_start: str | None = None
    """For tune."""
    run: str = ""
    """For evaluate and export."""
    options: tuple[str, ...] = ()
    """For evaluate and export: words of the command line besides the run."""
    overrides: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """For evaluate and export: what differs from the run's own job."""

    def request(self, told: Mapping[str, Any]) -> JobRequest:
        """The job, `told` of [cluster] where it runs. Raises ConfigError for what could not work there."""
        job = self.job.model_copy(update={"cluster": self.job.cluster.model_copy(update=dict(told))})
        match self.verb:
            case "evaluate":
                return request_on_run("evaluate", self.run, self.options, {**self.overrides, "cluster": told}, job)
            case "export":
                return request_on_run("export", self.run, self.options, self.overrides, job)
            case "train" | "tune":
                if not job.data.root and job.data.source != "synthetic":
                    raise ConfigError("data.root is not set; name an ImageFolder with --data.root URI")
                if self.search is None:
                    return training_request(job)
                return search_request(job, *self.search, self.warm_start)


def pool_submission(asked: Asked, flags: PoolFlags) -> Submission:
    """A job for Kubernetes. Raises ConfigError or SubmissionError for what could not work there."""
    flags, job = flags.checked(), asked.job
    check_reachable(job, MOUNT)
    in_claim = any(place.startswith("/") for place in (job.storage.root, job.data.root, job.data.labels, asked.run))
    if asked.verb == "export":
        return Submission(asked.request({}), driver_only_sizes(), use_gpu=False, flags=flags, mounts_claim=in_claim)
    sizes, use_gpu = _sizes(job)
    told = {
        "address": "auto",  # the Ray that the command is in
        "num_workers": job.cluster.num_workers,
        "use_gpu": use_gpu,
        "cpus_per_worker": sizes.cpus_per_worker,  # threads that never change, whatever else there is
    }
    return Submission(asked.request(told), sizes, use_gpu, flags, in_claim)


def ray_request(asked: Asked) -> JobRequest:
    """A job for a Ray that runs already; its folders are taken for ones that the cluster has under the same paths."""
    sections = {"storage": asked.job.storage, "data": asked.job.data}
    absolute = {
        name: section.model_copy(update={"root": absolute_root(section.root)})
        for name, section in sections.items()
        if section.root
    }
    overrides = dict(asked.overrides)
    for name, section in absolute.items():
        if "root" in overrides.get(name, {}):
            overrides = merged(overrides, {name: {"root": section.root}})
    return replace(asked, job=asked.job.model_copy(update=absolute), overrides=overrides).request({"address": "auto"})


def _sizes(job: JobConfig) -> tuple[PodSizes, bool]:
    # A pool is one of GPUs unless it is said to be none; whether it has some can only Kubernetes tell.
    use_gpu = job.cluster.use_gpu is not False
    height, width = job.data.input_size
    needs = JobNeeds(job.training.microbatch_size, height, width)
    return pod_sizes(job.cluster, needs, use_gpu=use_gpu), use_gpu


def describe(submission: Submission, view: JobView, namespace: str) -> list[str]:
    """What a person wants to know of a job that was just submitted."""
    request, flags = submission.request, submission.flags
    where = f"namespace {namespace}" + (f", queue {flags.queue}" if flags.queue else ", without a queue")
    ours = view.submission == request.submission
    what = "submitted" if ours else f"is there already ({view.state})"
    flag = f" --namespace {namespace}" if flags.namespace else ""
    flag += f" --kube-context {shlex.quote(flags.context)}" if flags.context else ""
    return [
        f"job {request.name} {what}: {where}",
        f"  {submission.sizes.stated()}",
        f"  writes to {request.run}",
        f"  resnet-dist jobs logs {request.name} -f{flag}",
        f"  resnet-dist jobs wait {request.name}{flag}",
    ]
