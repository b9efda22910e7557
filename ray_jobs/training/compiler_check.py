"""Whether what `training.compile` needs is there, asked before a Ray is started."""

from ray_jobs.job.config import JobConfig
from resnet_dist.model.compiling import require_compiler


def check_compiler(job: JobConfig, use_gpu: bool) -> None:
    """Raises RunError where this machine is to compile for its CPUs and cannot; other machines' workers look there."""
    if job.training.compile and job.cluster.address is None and not use_gpu:
        require_compiler()
