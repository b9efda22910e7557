"""Configuration of compression. Torch-free.

`json_schema_extra={"identity": ...}` says whether a field belongs to a run's identity, as in `resnet_dist.config`.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

_DIGEST = r"[0-9a-f]{16}"


class DistillationConfig(BaseModel):
    """Learning from the answers of a trained network besides the labels (arXiv:1503.02531)."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"identity": True}
    )

    # Where the teacher lies may change; what it answers may not, and its digest says that.
    teacher: Annotated[str | None, Field(json_schema_extra={"identity": False})] = None
    """A finished run to learn from (path, URI or bare name), with the same classes and the same preprocessing; unset:
    labels alone."""
    teacher_digest: Annotated[str, Field(pattern=f"^{_DIGEST}$")] | None = None
    """16 hex digits that stand for what the teacher answers: its network, the weights of its best checkpoint and its
    preprocessing; unset: those of the teacher at the run's first start."""
    temperature: Annotated[float, Field(ge=0.25, le=100.0)] = 2.0
    """What both networks' logits are divided by before they are compared: a higher one gives more weight to what the
    teacher holds for unlikely."""
    weight: Annotated[float, Field(ge=0.0, le=1.0)] = 0.9
    """Share of the teacher's answers in the loss, that of the labels being 1 - weight; 1 for images that are mixed with
    others (training.mixup_alpha, training.cutmix_alpha)."""
    features: Annotated[float, Field(ge=0.0)] = 0.0
    """What the distance between the two networks' attention maps (arXiv:1612.03928) behind each trained stage of layer1
    to layer4 is multiplied by before it is added; 0: maps are not compared."""

    @model_validator(mode="after")
    def _needs_a_teacher(self) -> "DistillationConfig":
        without = DistillationConfig.model_construct()
        changed = [name for name in type(self).model_fields if getattr(self, name) != getattr(without, name)]
        if self.teacher is None and changed:
            raise ValueError(
                f"distillation.{changed[0]}={getattr(self, changed[0])} says how to learn from a teacher and "
                "distillation.teacher names none; give a finished run (--distillation.teacher RUN), or leave it unset"
            )
        return self
