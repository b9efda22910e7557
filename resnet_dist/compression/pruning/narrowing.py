"""First weights for a narrower network from a wider one: the channels whose BatchNorm scales them most."""

from collections.abc import Mapping

import numpy as np
import torch

from resnet_dist.compression.pruning.channels import highest, summed_over_norms
from resnet_dist.compression.pruning.cut import cut_weights
from resnet_dist.compression.pruning.magnitudes import magnitudes
from resnet_dist.errors import RunError
from resnet_dist.model.architectures import SHAPES, Shape
from resnet_dist.model.resnet import ResNetClassifier
from resnet_dist.model.structure import Structure


def narrowed(weights: Mapping[str, torch.Tensor], wide: Structure, narrow: Structure) -> dict[str, torch.Tensor]:
    """The state_dict of `narrow` from that of `wide`, whose other channels and blocks are left out.

    Of each group the channels with the largest `magnitudes` stay. Blocks stay under their names, so that ResNet-18 gets
    the first blocks of each stage of ResNet-34. The head keeps its classes; gates that only `narrow` has are not in the
    result. Raises RunError where the kinds of blocks differ, where `narrow` has something that `wide` does not have,
    and for weights that are not of `wide` or not finite.
    """
    where = f"weights of {wide.arch} cannot be narrowed to {narrow.arch}"
    _check_kinds(wide, narrow, where)
    _check_shapes(weights, wide)
    try:
        keep = highest(magnitudes(weights, wide), narrow.layer_widths)
    except ValueError as error:
        raise RunError(
            f"{where}: {error}; choose a narrower model.widths or model.arch, or weights of a wider network"
        ) from error
    return cut_weights(weights, wide, keep)


def can_narrow(wide: Structure, narrow: Structure) -> bool:
    """Whether `narrowed` takes weights of `wide` for `narrow`, whatever their numbers are."""
    try:
        _check_kinds(wide, narrow, "")
        highest(summed_over_norms(wide, lambda _: np.zeros(1)), narrow.layer_widths)
    except (RunError, ValueError):
        return False
    return True


def _check_kinds(wide: Structure, narrow: Structure, where: str) -> None:
    source, target = SHAPES[wide.arch], SHAPES[narrow.arch]
    if _kind(source) != _kind(target):
        fitting = ", ".join(arch for arch, shape in SHAPES.items() if _kind(shape) == _kind(source))
        raise RunError(
            f"{where}: its blocks have {len(target.inner(0)) + 1} convolutions in {target.groups} groups, those of "
            f"the weights {len(source.inner(0)) + 1} in {source.groups}; choose other weights, or a model.arch of "
            f"{fitting}"
        )
    if source.groups > 1 and source.inner(0) != target.inner(0):
        raise RunError(
            f"{where}: grouped convolutions keep their widths, {source.inner(0)[0]} channels in layer1 rather than "
            f"{target.inner(0)[0]}; choose model.arch={wide.arch} or other weights"
        )
    if wide.squeeze_excite and not narrow.squeeze_excite:
        raise RunError(
            f"{where}: they have squeeze-excite gates and model.squeeze_excite=false has none; set "
            "model.squeeze_excite=true or choose weights without"
        )


def _kind(shape: Shape) -> tuple[int, int]:
    return shape.expansion, shape.groups


def _check_shapes(weights: Mapping[str, torch.Tensor], structure: Structure) -> None:
    """Raises RunError unless a network of this structure, of any number of classes, has such weights."""
    head = weights.get("fc.weight")
    classes = 1 if head is None or head.ndim == 0 else max(1, len(head))
    for name, value in ResNetClassifier(structure, classes, 0.0).state_dict().items():
        found = weights.get(name)
        if not name.endswith("num_batches_tracked") and (found is None or found.shape != value.shape):
            raise RunError(
                f"weights have {name} {None if found is None else list(found.shape)}, and {structure.arch} of their "
                f"model.json {list(value.shape)}: the two are of different networks; restore the run"
            )
