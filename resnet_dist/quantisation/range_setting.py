"""When the ranges of a network that learns in 8 bits are set: early, and then never again."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from resnet_dist.model.resnet import ResNetClassifier
from resnet_dist.quantisation.dialect import Range
from resnet_dist.quantisation.network import calibrate, ranges_of, set_ranges
from resnet_dist.training.rank_group import RankGroup


@dataclass(frozen=True)
class RangeSetting:
    """Rank zero sets them by the same images at the beginning of each epoch of the first half of a training.

    In the second half the weights learn for ranges that stay, as those of a file do. What rank zero finds is the same
    at every number of workers, and follows from the weights at the epoch's beginning: a start in the middle of an epoch
    has it from the checkpoint.
    """

    images: Callable[[], Iterable[torch.Tensor]]
    """Read anew each time: batches float32 [N, 3, height, width], normalised. Only rank zero asks."""
    epochs: int
    """Of the training."""

    def begin_epoch(self, model: ResNetClassifier, epoch: int, step: int, group: RankGroup) -> None:
        """At step `step` of an epoch, which may be one that a training starts again from. Collective.

        Raises RunError where values of the network are not finite.
        """
        if step or 2 * epoch >= self.epochs:
            return
        was_training = model.training
        if group.rank == 0:
            model.eval()
            calibrate(model, self.images())
            model.train(was_training)
        names = list(ranges_of(model))
        values = torch.tensor(
            [(each.low, each.high) for each in ranges_of(model).values()],
            dtype=torch.float64,
            device=model.fc.weight.device,
        )
        group.broadcast_(values)
        pairs: list[tuple[float, float]] = values.tolist()  # pyright: ignore[reportUnknownVariableType]
        set_ranges(model, {name: Range(low, high) for name, (low, high) in zip(names, pairs, strict=True)})
