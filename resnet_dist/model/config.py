"""Configuration of the network and of its frozen stages. Torch-free.

`json_schema_extra={"identity": ...}` says whether a field belongs to a run's identity, as in `resnet_dist.config`.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from resnet_dist.model.architectures import Arch
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths

StagePolicy = Literal["frozen", "bn_frozen", "trainable"]
FREEZABLE: tuple[str, ...] = ("stem", "layer1", "layer2", "layer3", "layer4")
"""Stages that may be frozen, from the image on; the head never is."""


class ModelConfig(BaseModel):
    """The network and where its first weights come from."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"identity": True}
    )

    arch: Arch = "resnet50"
    """A torchvision ResNet, ResNeXt or Wide ResNet."""
    weights: str = "imagenet"
    """First weights: "imagenet" (torchvision's best), "none", a torchvision name such as IMAGENET1K_V1, a
    .safetensors or .pth file, or a finished run (path, URI or bare name)."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Probability of dropping a feature before the linear head."""
    squeeze_excite: bool = False
    """Squeeze-and-excitation gates (arXiv:1709.01507) on every block; they start as identity, so that loaded weights
    answer as before."""
    widths: str | None = None
    """Channels of each layer, and blocks that are left out: a factor such as 0.75 for all layers, or five words, of the
    stem and of layer1 to layer4: "64 256:64/64,48/32,- ...". Unset: the architecture's own."""
    quantisation: Literal["int8"] | None = None
    """int8: learn with values rounded to 8 bits, as in the int8 files that `export` then makes of the run
    (arXiv:1712.05877). BatchNorm keeps its statistics, so model.weights names a trained run. Unset: floating point."""

    @model_validator(mode="after")
    def _has_such_widths(self) -> "ModelConfig":
        try:
            _ = self.structure
        except ValueError as error:
            raise ValueError(f"model.{error}; change model.widths or model.arch={self.arch}") from None
        return self

    @property
    def structure(self) -> Structure:
        """What the network is built from."""
        widths = None if self.widths is None else Widths.parse(self.widths, self.arch)
        return Structure(self.arch, squeeze_excite=self.squeeze_excite, widths=widths)


class FreezingConfig(BaseModel):
    """Which stages keep their weights, and until when."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"identity": True}
    )

    freeze_depth: Annotated[int, Field(ge=0, le=5)] = 0
    """0 freezes nothing, 1 the stem, 2 also layer1, and so on to 5: all but the head."""
    preset: Literal["layered", "linear_probe_then_finetune", "gradual"] | None = None
    """layered: stem frozen, layer1 and layer2 bn_frozen, the rest trained. linear_probe_then_finetune
    (arXiv:2202.10054): the head alone for probe_epochs, then everything. gradual (arXiv:1801.06146): the head alone,
    then every epochs_per_stage one more stage from layer4 down to the stem. Unset: freeze_depth."""
    probe_epochs: Annotated[int, Field(ge=1)] = 2
    """linear_probe_then_finetune: epochs in which only the head is trained."""
    epochs_per_stage: Annotated[int, Field(ge=1)] = 1
    """gradual: epochs between two stages that begin to be trained."""
    stem: StagePolicy | None = None
    """frozen, bn_frozen (convolutions are trained, BatchNorm keeps statistics, scale and shift) or trainable; unset:
    as freeze_depth or the preset say."""
    layer1: StagePolicy | None = None
    """As stem."""
    layer2: StagePolicy | None = None
    """As stem."""
    layer3: StagePolicy | None = None
    """As stem."""
    layer4: StagePolicy | None = None
    """As stem."""

    @model_validator(mode="after")
    def _one_policy(self) -> "FreezingConfig":
        if self.preset is not None and self.freeze_depth:
            raise ValueError(
                f"freezing.preset={self.preset} and freezing.freeze_depth={self.freeze_depth} contradict each other; "
                "set only one of them"
            )
        own = [name for name in FREEZABLE if getattr(self, name) is not None]
        if own and self.preset in ("linear_probe_then_finetune", "gradual"):
            raise ValueError(
                f"freezing.{own[0]}={getattr(self, own[0])} and freezing.preset={self.preset}, under which policies "
                "change by epoch, contradict each other; set only one of them"
            )
        for _, policies in freezing_phases(self):
            for name, shallower, deeper in zip(FREEZABLE[1:], policies, policies[1:], strict=False):
                if deeper == "frozen" and shallower != "frozen":
                    raise ValueError(
                        f"freezing.{name}=frozen behind a stage that is {shallower}: its gradient would have to pass "
                        "through it; frozen stages come first, so freeze what lies before it too, or use bn_frozen"
                    )
        return self


Policies = tuple[StagePolicy, ...]
"""A policy for each stage of `FREEZABLE`."""


def depth_policies(freeze_depth: int) -> Policies:
    """The policies of a freeze depth: nothing is frozen at 0, all but the head at 5. Raises ValueError beyond."""
    if not 0 <= freeze_depth <= len(FREEZABLE):
        raise ValueError(f"freeze_depth={freeze_depth} is not in 0..5; 5 freezes all but the head")
    return tuple("frozen" if place < freeze_depth else "trainable" for place in range(len(FREEZABLE)))


def freezing_phases(config: FreezingConfig) -> list[tuple[int, Policies]]:
    """(first epoch, policies) in the order in which they come; the first phase begins at epoch 0."""
    match config.preset:
        case "linear_probe_then_finetune":
            return [(0, depth_policies(5)), (config.probe_epochs, depth_policies(0))]
        case "gradual":
            return [(config.epochs_per_stage * number, depth_policies(5 - number)) for number in range(6)]
        case "layered":
            base: Policies = ("frozen", "bn_frozen", "bn_frozen", "trainable", "trainable")
        case None:
            base = depth_policies(config.freeze_depth)
    own: list[StagePolicy | None] = [getattr(config, name) for name in FREEZABLE]
    return [(0, tuple(chosen or policy for chosen, policy in zip(own, base, strict=True)))]
