"""Which stages are frozen, and what that leaves to train."""

from dataclasses import dataclass

from resnet_dist.model.resnet import STAGES, ResNetClassifier


@dataclass(frozen=True)
class StageSize:
    """A row of the table of stages."""

    stage: str
    parameters: int
    trainable: int


def stage_of(parameter: str) -> str:
    """The stage that a parameter or buffer of a ResNet belongs to, by its torchvision name."""
    first = parameter.split(".", 1)[0]
    return {"conv1": "stem", "bn1": "stem", "fc": "head"}.get(first, first)


def frozen_stages(freeze_depth: int) -> tuple[str, ...]:
    """The frozen prefix: () at 0, the stem at 1, all but the head at 5."""
    return STAGES[:freeze_depth]


def stage_sizes(model: ResNetClassifier, freeze_depth: int) -> list[StageSize]:
    """Parameters of each stage, and how many of them are trained."""
    frozen = frozen_stages(freeze_depth)
    totals = dict.fromkeys(STAGES, 0)
    for name, parameter in model.named_parameters():
        totals[stage_of(name)] += parameter.numel()
    return [StageSize(stage, total, 0 if stage in frozen else total) for stage, total in totals.items()]
