"""A run's initial weights, found and checked on the driver: workers may see neither the file nor the network."""

from dataclasses import dataclass
from typing import Self

import torch

from ray_jobs.job.config import JobConfig
from ray_jobs.run.compression_record import initial_weights
from ray_jobs.run.directory import RunDirectory
from resnet_dist.checkpoint.contents import Checkpoint
from resnet_dist.errors import RunError
from resnet_dist.model.model_json import ranges_in, structure_of
from resnet_dist.model.resnet import build_model
from resnet_dist.model.weights import StructuredWeights, initialize


@dataclass(frozen=True)
class InitialWeights:
    """A whole state_dict on the CPU, and the lines of the log about it."""

    weights: dict[str, torch.Tensor]
    messages: list[str]

    @classmethod
    def of(cls, job: JobConfig, classes: int, run: RunDirectory | None = None) -> Self:
        """Those that the run itself holds, where it is one of pruning; else by the job's `model.weights`.

        Raises RunError for weights that are not there or do not fit.
        """
        own = None if run is None else initial_weights(run)
        if own is not None:
            return cls(own, [f"weights: what pruning left of {job.model.weights}"])

        def of_run(name: str) -> StructuredWeights:
            best = RunDirectory.find(name, job.storage.root).checkpoint("best")
            if job.model.quantisation is not None:
                _require_statistics(name, best, job)
            return StructuredWeights(best.weights(), structure_of(best.model_json()))

        model = build_model(job.model.structure, classes, job.model.dropout, job.seed)
        messages = initialize(model, job.model.weights, of_run)
        return cls(model.state_dict(), messages)


def _require_statistics(name: str, best: Checkpoint, job: JobConfig) -> None:
    """Raise RunError for weights whose BatchNorm statistics are none of the job's network, which keeps them."""
    description = best.model_json()
    if ranges_in(description) is not None:
        raise RunError(
            f"model.weights={name} learnt to compute in 8 bits already; name the run that it came from, or export it"
        )
    if structure_of(description).layer_widths != job.model.structure.layer_widths:
        raise RunError(
            f"model.quantisation=int8 keeps BatchNorm's statistics, and model.weights={name} has other widths than "
            "model.widths; quantise a run of these widths, which compress distill and compress prune make"
        )
