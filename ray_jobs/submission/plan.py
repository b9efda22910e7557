"""From a SubmitCommand to Kubernetes objects: where in the pool the job goes, and how large its pods are."""

from dataclasses import dataclass, replace

from cluster.jobs import JobRequest
from cluster.kube.jobs.manifest import CLAIM, MOUNT, SECRET, JobManifest, Placement, render_job
from cluster.kube.jobs.sizing import JobNeeds, driver_only_sizes, pod_sizes, with_export
from cluster.kube.queues.team import Storage
from ray_jobs.submission.command import PoolFlags, SubmitCommand
from ray_jobs.submission.request import check_reachable, request_of


@dataclass(frozen=True)
class PoolPlan:
    """A job that is ready to be applied."""

    request: JobRequest
    placement: Placement
    """Its namespace and storage are set by `manifest`, when the cluster has told them."""
    flags: PoolFlags

    def manifest(self, namespace: str, storage: Storage | None = None) -> JobManifest:
        """Its Kubernetes objects; `storage`: the claim and the Secret of the queue's team."""
        named = storage or Storage()
        return render_job(
            self.request,
            replace(
                self.placement,
                namespace=namespace,
                claim=named.claim or CLAIM,
                secret=named.secret or SECRET,
            ),
        )


def plan_for_pool(command: SubmitCommand, flags: PoolFlags) -> PoolPlan:
    """The job on Kubernetes. Raises ConfigError or SubmissionError for what cannot work there."""
    flags, job = flags.checked(), command.job
    check_reachable(job, MOUNT)
    use_gpu = command.verb != "export" and job.cluster.use_gpu is not False  # a pool has GPUs unless the job says no
    if command.verb == "export":
        sizes = driver_only_sizes()
        request = request_of(command, {})
    else:
        needs = JobNeeds(job.training.microbatch_size, *job.data.input_size)
        sizes = pod_sizes(job.cluster, needs, use_gpu=use_gpu)
        if command.then == "export":
            sizes = with_export(sizes)
        cluster = {
            "address": "auto",  # the Ray that the command is in
            "num_workers": job.cluster.num_workers,
            "use_gpu": use_gpu,
            "cpus_per_worker": sizes.cpus_per_worker,  # a fixed number of threads, whatever else the nodes have
        }
        request = request_of(command, cluster)
    places = (job.storage.root, job.data.root, job.data.labels, command.run)
    placement = Placement(
        namespace=flags.namespace or "default",
        sizes=sizes,
        use_gpu=use_gpu,
        image=flags.image,
        queue=flags.queue,
        priority=flags.priority,
        mounts_claim=any(place.startswith("/") for place in places),
    )
    return PoolPlan(request, placement, flags)
