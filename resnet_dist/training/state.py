"""Everything that training changes, and how it becomes a checkpoint and comes back from one."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from resnet_dist.model.resnet import ResNetClassifier
from resnet_dist.model.trunk import Suffix, Trunk
from resnet_dist.training.early_stopping import EarlyStopping
from resnet_dist.training.ema import Ema
from resnet_dist.training.loss_scale import LossScale
from resnet_dist.training.schedules import Plateau


@dataclass
class TrainState:
    """The network in its two parts, what moves it, and how far it has come."""

    model: ResNetClassifier
    """The whole network; its frozen stages never change."""
    trunk: Trunk | None
    """The frozen prefix, folded, without autograd; None where nothing is frozen."""
    suffix: Suffix
    """The stages that are trained: `model`'s own modules, in training mode."""
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    scale: LossScale
    plateau: Plateau
    """What validation has made of the learning rate."""
    stopping: EarlyStopping | None = None
    """None where training does not end early."""
    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    """The epoch that training is in, from 0; the number of epochs when it is done."""
    step_in_epoch: int = 0
    """Steps of that epoch done."""
    validation_owed: bool = False
    """The epoch's steps are all done and its validation is not."""
    answered: tuple[int, ...] = ()
    """The classes that the last validation's answers are of, in order; none before the first."""
    skipped_in_a_row: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    """float32 scalar, on the device once there was a step: the last steps, which were left out because their numbers
    were not finite."""

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """What the suffix takes for images float32 [B, 3, height, width]."""
        return images if self.trunk is None else self.trunk(images)

    def judged_weights(self) -> dict[str, torch.Tensor]:
        """CPU copies of the whole state_dict, contiguous, with the averaged weights where an EMA is on."""
        if self.ema is None:
            return _copies(self.model)
        with self.ema.applied():
            return _copies(self.model)

    def training_state(self) -> dict[str, Any]:
        """CPU copies of what only training needs, as containers that `torch.load(weights_only=True)` takes."""
        trained = {name: value for name, value in self.suffix.named_parameters() if value.requires_grad}
        moments = {name: _on_cpu(self.optimizer.state.get(value, {})) for name, value in trained.items()}
        return {
            "raw_weights": {name: _copy(value) for name, value in trained.items()},
            "optimizer": {"state": moments},
            "scale": self.scale.to_json(),
            "skipped_in_a_row": int(self.skipped_in_a_row),
        }

    def restore(self, training_state: dict[str, Any]) -> None:
        """Take a checkpoint's training state, once the model was built with its judged weights.

        The EMA's averages, copied from those when it was made, are the judged weights: they are not stored twice.
        Parameters that began to be trained since are left as they are.
        """
        raw, moments = training_state["raw_weights"], training_state["optimizer"]["state"]
        with torch.no_grad():
            for name, parameter in self.suffix.named_parameters():
                if parameter.requires_grad and name in raw:
                    parameter.copy_(raw[name])
        self.take_moments(moments)
        self.scale.restore(training_state["scale"])
        self.skipped_in_a_row = torch.tensor(float(training_state["skipped_in_a_row"]))

    def take_moments(self, moments: dict[str, dict[str, Any]]) -> None:
        """Continue the optimizer with what it knew of parameters, by their names."""
        for name, parameter in self.suffix.named_parameters():
            if parameter.requires_grad and moments.get(name):
                self.optimizer.state[parameter] = {
                    key: value.to(parameter.device) if isinstance(value, torch.Tensor) else value
                    for key, value in moments[name].items()
                }


def _copies(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: _copy(value).contiguous() for name, value in model.state_dict().items()}


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", copy=True)


def _on_cpu(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return _copy(value)
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [_on_cpu(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value
