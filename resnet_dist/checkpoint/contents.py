"""What a checkpoint holds: `Snapshot` when it is written, `Checkpoint` when it was read."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch

from resnet_dist.checkpoint.manifest import MODEL, PROGRESS, TRAINING_STATE, WEIGHTS, Origin
from resnet_dist.checkpoint.progress import Progress
from resnet_dist.sealed_json import json_bytes

FILES = (MODEL, WEIGHTS, TRAINING_STATE, PROGRESS)
"""In the order in which they are written."""


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint is written from: copies on the CPU that training no longer touches."""

    model: dict[str, Any]
    weights: dict[str, torch.Tensor]
    """The whole state_dict, contiguous."""
    training_state: dict[str, Any]
    """Tensors in plain containers."""
    progress: Progress

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.progress.step

    def files(self) -> dict[str, bytes]:
        """Each file but the manifest."""
        state = io.BytesIO()
        torch.save(self.training_state, state)
        return {
            MODEL: json_bytes(self.model),
            WEIGHTS: safetensors.torch.save(self.weights),
            TRAINING_STATE: state.getvalue(),
            PROGRESS: json_bytes(self.progress.to_json()),
        }


class Checkpoint:
    """A checkpoint whose bytes were verified; what is parsed are those very bytes.

    No file runs code: weights are safetensors, and of a training state only tensors in plain containers are read.
    """

    def __init__(self, name: str, progress: Progress, files: Mapping[str, bytes], origin: Origin | None) -> None:
        self.name = name
        self.progress = progress
        self.origin = origin
        self._model: dict[str, Any] = json.loads(files[MODEL])
        self._weights = safetensors.torch.load(files[WEIGHTS])
        self._training_state: dict[str, Any] = torch.load(
            io.BytesIO(files[TRAINING_STATE]), map_location="cpu", weights_only=True
        )

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.progress.step

    def model_json(self) -> dict[str, Any]:
        """The architecture."""
        return self._model

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights to be judged, on the CPU."""
        return self._weights

    def training_state(self) -> dict[str, Any]:
        """What only training needs, on the CPU."""
        return self._training_state
