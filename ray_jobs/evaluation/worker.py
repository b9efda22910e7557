"""What a worker of an evaluation runs. Ray's process loads this module first, so it loads no torch."""

from typing import TYPE_CHECKING

import ray

from cluster.session.openmp import bound_spinning
from cluster.session.resources import WorkerPlan

if TYPE_CHECKING:
    # It loads torch.
    from ray_jobs.evaluation.evaluate import Work
    from resnet_dist.evaluation.judge import Answers


def answer(work: "list[ray.ObjectRef[Work]]", rank: int, plan: WorkerPlan) -> "Answers":
    """One worker's answers. `work` holds a reference to what all workers need: Ray would load its torch tensors before
    this process has bounded OpenMP's spinning, if it were an argument itself."""
    bound_spinning()
    from ray_jobs.evaluation.evaluate import answer_batches  # noqa: PLC0415 - it loads torch

    return answer_batches(ray.get(work[0]), rank, plan)
