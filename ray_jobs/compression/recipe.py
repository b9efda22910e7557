"""A recipe: the phases of a chain, one after the other, each on the result of the one before it. Torch-free."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ray_jobs.compression.request import MOST_ROUNDS, PruneRequest, QuantizeRequest, Scope
from ray_jobs.errors import ConfigError
from ray_jobs.job.toml_codec import Tree, checked
from ray_jobs.job.toml_file import read_toml
from resnet_dist.model.architectures import Arch
from resnet_dist.model.widths import Widths


class Phase(BaseModel):
    """One phase. What it leaves unset is the command's own default."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Literal["distill", "prune", "smallest", "quantize"]
    """distill, prune, quantize as the commands of that name; smallest: prune to smaller and smaller targets, as long as
    the loss on val stays below max_loss."""
    target: str | None = None
    """prune: as --target. smallest: macs or parameters, whose share is searched."""
    scope: Scope = "inner"
    """prune, smallest: as --scope."""
    rounds: Annotated[int, Field(ge=1, le=MOST_ROUNDS)] | None = None
    """prune, smallest: as --rounds."""
    floor: Annotated[float, Field(gt=0.0, le=1.0)] = 0.25
    """prune, smallest: as --floor."""
    tries: Annotated[int, Field(ge=1, le=8)] = 4
    """smallest: prunings at most."""
    max_loss: Annotated[float, Field(gt=0.0, le=100.0)] | None = None
    """Points of top-1 of the run before the chain, with its interval: on val for smallest, else on test (else val)."""
    arch: Arch | None = None
    """distill: the student's model.arch."""
    widths: str | None = None
    """distill: the student's model.widths."""
    always: bool = False
    """quantize: as --always."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Epochs of the phase; unset: those of the job."""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> "Phase":
        if self.kind == "distill" and self.arch is None and self.widths is None:
            raise ValueError('kind=distill names its student by arch, widths or both, such as widths = "0.75"')
        if self.widths is not None and (self.arch is not None or "." in self.widths):  # others depend on the run
            Widths.parse(self.widths, self.arch or "resnet18")
        if self.always and self.kind != "quantize":
            raise ValueError(f"always=true is for kind=quantize, not {self.kind}; remove it")
        if self.kind == "prune":
            if self.target is None:
                raise ValueError('kind=prune needs a target, such as target = "latency=0.5x@openvino"')
            try:
                self.request(self.target)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        if self.kind == "smallest" and (self.target not in ("macs", "parameters") or self.max_loss is None):
            raise ValueError(
                f'kind=smallest needs target = "macs" or "parameters", not {self.target!r}, and max_loss, such as 1.0'
            )
        return self

    def request(self, target: str) -> PruneRequest:
        """Of a pruning to that target. Raises ConfigError."""
        return PruneRequest(target, self.scope, self.rounds, self.floor)

    @property
    def quantize_request(self) -> QuantizeRequest:
        """Of a quantisation."""
        return QuantizeRequest(self.always, self.max_loss)

    @property
    def changes(self) -> Tree:
        """What the phase changes of the job."""
        model = {name: value for name in ("arch", "widths") if (value := getattr(self, name)) is not None}
        found: dict[str, Any] = {"model": model} if model else {}
        return found if self.epochs is None else {**found, "training": {"epochs": self.epochs}}


class Recipe(BaseModel):
    """One phase or more."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    phase: Annotated[tuple[Phase, ...], Field(max_length=10)]
    """In their order."""

    # Not by min_length, which counts a phase that is wrong as none.
    @model_validator(mode="after")
    def _has_a_phase(self) -> "Recipe":
        if not self.phase:
            raise ValueError("phase: a recipe has at least one; begin it with [[phase]]")
        if any(phase.kind == "quantize" for phase in self.phase[:-1]):
            raise ValueError(
                "phase: quantize is the last one, since a network in 8 bits is not cut; move it to the end"
            )
        return self


RECIPES: dict[str, Recipe] = {
    "half-latency": Recipe(phase=(Phase(kind="prune", target="latency=0.5x@openvino"),)),
    "half-latency-int8": Recipe(
        phase=(Phase(kind="prune", target="latency=0.5x@openvino"), Phase(kind="quantize")),
    ),
    "quarter-size": Recipe(phase=(Phase(kind="prune", target="parameters=0.25", scope="all"),)),
    "smallest-within-1pt": Recipe(phase=(Phase(kind="smallest", target="parameters", scope="all", max_loss=1.0),)),
}


def recipe_of(text: str) -> tuple[str, Recipe]:
    """The name and the phases of a recipe that ships, or of a TOML file. Raises ConfigError."""
    if text in RECIPES:
        return text, RECIPES[text]
    path = Path(text)
    if path.suffix != ".toml":
        raise ConfigError(f"--recipe {text}: it is none of {', '.join(RECIPES)}, and no .toml file; name one of them")
    name = re.sub(r"[^A-Za-z0-9._-]", "-", path.stem)[:40]
    return name, checked(Recipe, read_toml(path, "--recipe"), prefix=f"{path}: ", missing="begin it with [[phase]]")
