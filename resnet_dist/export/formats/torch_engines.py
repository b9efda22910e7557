"""TorchScript and torch.export, loaded to be compared and timed. Loading either can run code: trusted files only."""

import io
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from resnet_dist.runtime.engines import Engine


def load_torch_engine(path: Path) -> Engine:
    """The engine of a .pt (TorchScript) or .pt2 (torch.export) file, on CPU."""
    data = io.BytesIO(path.read_bytes())
    if path.suffix == ".pt2":
        network = cast("Any", torch.export.load(data).module())
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = cast("Any", torch.jit.load(data, map_location="cpu"))

    def answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            return network(torch.from_numpy(images)).numpy()

    return answer
