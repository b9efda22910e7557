"""Scores that need no images: the size of BatchNorm weights, as in Network Slimming (arXiv:1708.06519)."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from resnet_dist.compression.pruning.channels import identity_blocks, summed_over_norms
from resnet_dist.compression.pruning.scores import Scores
from resnet_dist.model.structure import Structure


def magnitudes(weights: Mapping[str, torch.Tensor], structure: Structure) -> Scores:
    """Of a network's state_dict: a channel's score is the sum of |BatchNorm weight| over the layers that write to its
    group; a residual branch's is that of the layer that ends it."""

    def of_norm(name: str) -> NDArray[np.float64]:
        return weights[f"{name}.weight"].double().abs().cpu().numpy()

    found = summed_over_norms(structure, of_norm)
    branches = {block: float(of_norm(norm).sum()) for block, norm in identity_blocks(structure)}
    return Scores(found.streams, found.inner, found.own_stem, branches)
