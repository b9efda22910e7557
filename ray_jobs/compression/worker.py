"""What a worker computes of a network that is cut or quantised.

Ray's process loads this module first, so it loads no torch.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from cluster.session.openmp import bound_spinning
from cluster.session.resources import WorkerPlan

if TYPE_CHECKING:
    # They load torch.
    import numpy as np
    import torch

    from data_pipeline.listing.samples import Samples
    from ray_jobs.data.node_images import NodeImages
    from ray_jobs.job.config import JobConfig
    from resnet_dist.compression.pruning.channels import Channels
    from resnet_dist.compression.pruning.scores import Scores


@dataclass(frozen=True)
class Network:
    """A trained network and the images by which its channels or its ranges are judged."""

    job: "JobConfig"
    """Says how images are read and seen, and how large microbatches are."""
    model: dict[str, Any]
    """model.json."""
    weights: "dict[str, torch.Tensor]"
    train: "Samples"
    images: "NodeImages | None"
    microbatches: int = 0
    """How many channels are judged by: the first ones of the first epoch."""


def score(network: "list[ray.ObjectRef[Network]]", plan: WorkerPlan) -> "Scores":
    """The score of each channel. `network` holds a reference, so that Ray does not load its tensors too early."""
    bound_spinning()
    from ray_jobs.compression.measuring import score_network  # noqa: PLC0415 - it loads torch

    return score_network(ray.get(network[0]), plan)


def calibrate(network: "list[ray.ObjectRef[Network]]", plan: WorkerPlan) -> dict[str, Any]:
    """model.json of the network in 8 bits, with ranges by some of its training images and nothing learnt."""
    bound_spinning()
    from ray_jobs.compression.measuring import calibrated_network  # noqa: PLC0415 - it loads torch

    return calibrated_network(ray.get(network[0]), plan)


def cut(
    network: "list[ray.ObjectRef[Network]]", keep: "Channels[np.int64]", plan: WorkerPlan
) -> "tuple[dict[str, Any], dict[str, torch.Tensor]]":
    """model.json and weights of what is left with the channels of `keep`, its BatchNorm statistics estimated anew."""
    bound_spinning()
    from ray_jobs.compression.measuring import cut_network  # noqa: PLC0415 - it loads torch

    return cut_network(ray.get(network[0]), keep, plan)
