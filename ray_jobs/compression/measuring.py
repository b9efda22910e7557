"""Channels scored and cut, ranges set, by the views that training sees: a pure function of weights, data and seed.

One worker does it. What it computes does not depend on how many workers train.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch

from cluster.session.resources import WorkerPlan
from data_pipeline.sources.build import training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from ray_jobs.compression.worker import Network
from ray_jobs.data.calibration_images import calibration_batches
from ray_jobs.data.node_images import on_this_node
from ray_jobs.data.prepare import decoder
from resnet_dist.compression.pruning.channels import Channels
from resnet_dist.compression.pruning.cut import cut
from resnet_dist.compression.pruning.reestimate import reestimate
from resnet_dist.compression.pruning.scores import Scores, channel_scores
from resnet_dist.model.model_json import describe, restored, restored_float
from resnet_dist.model.pointwise import use_onednn
from resnet_dist.quantisation.network import calibrate, quantise
from resnet_dist.torch_threads import torch_threads


def score_network(network: Network, plan: WorkerPlan) -> Scores:
    """Scores by the first microbatches of the first epoch."""
    with torch_threads(plan.threads), on_this_node(network.images, network.train) as (train,):
        device = _device(plan)
        model = restored(network.model, network.weights)
        model.to(device=device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return channel_scores(model, _microbatches(network, train, plan, device))


def calibrated_network(network: Network, plan: WorkerPlan) -> dict[str, Any]:
    """model.json of the network in 8 bits, its ranges set by as many images as an export takes."""
    with torch_threads(plan.threads), on_this_node(network.images, network.train) as (train,):
        model = restored_float(network.model, network.weights).eval()
        quantise(model)
        model.to(device=_device(plan), memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if not plan.use_gpu:
            use_onednn(model, network.job.training)
        calibrate(model, calibration_batches(network.job, train, network.job.export.calibration_images))
        return describe(model)


def cut_network(
    network: Network, keep: Channels[np.int64], plan: WorkerPlan
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """model.json and the weights on the CPU of what is left of a network."""
    with torch_threads(plan.threads), on_this_node(network.images, network.train) as (train,):
        device = _device(plan)
        model = cut(restored(network.model, network.weights), keep)
        model.to(device=device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        reestimate(model, _microbatches(network, train, plan, device))
        weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        return describe(model), weights


def _microbatches(
    network: Network, train: Any, plan: WorkerPlan, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    job = network.job
    spec = SourceSpec(job.data, decoder(job), job.augmentation, job.seed, job.data.decode_threads or plan.threads)
    training = job.training
    share = RankShare(0, 1, device)
    with training_source(spec, train, training.global_batch_size, training.microbatch_size, share) as source:
        every = (each for step in source.epoch(0) for each in step.microbatches)
        for microbatch in islice(every, network.microbatches):
            yield microbatch.images, microbatch.labels


def _device(plan: WorkerPlan) -> torch.device:
    return torch.device("cuda" if plan.use_gpu else "cpu")
