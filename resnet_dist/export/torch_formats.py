"""TorchScript and torch.export: for programs that have torch anyway. Both can hold code."""

import warnings
from pathlib import Path

import torch

from resnet_dist.export.deployed import DeployedNetwork, example
from resnet_dist.runtime.engines import INPUT, MOST_IMAGES
from resnet_dist.runtime.preprocess import Preprocess


def write_torchscript(network: DeployedNetwork, preprocess: Preprocess, path: Path) -> None:
    """Trace to a .pt file."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have torch.export
        traced = torch.jit.trace(network, (example(preprocess),))  # pyright: ignore[reportUnknownVariableType]
        torch.jit.save(traced, path)


def write_torch_export(network: DeployedNetwork, preprocess: Preprocess, path: Path) -> None:
    """torch.export's ExportedProgram as a .pt2 file, for any batch of 1..MOST_IMAGES."""
    batch = torch.export.Dim("batch", min=1, max=MOST_IMAGES)
    program = torch.export.export(network, (example(preprocess),), dynamic_shapes={INPUT: {0: batch}})
    torch.export.save(program, path)
