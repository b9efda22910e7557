"""Configuration of a search: what is searched, how, and within which budget. Torch-free.

`json_schema_extra={"identity": ...}` says whether a field belongs to the search's identity: what decides which
configurations are tried and how they are judged does; how long it goes on and where it runs does not.
"""

import math
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.config import JsonDict

from resnet_dist.config import Monitor

Objective = Literal[Monitor, "latency_ms", "latency_onnx_ms", "latency_openvino_ms", "parameters"]
OBJECTIVES: tuple[str, ...] = tuple(
    name for part in get_args(Objective) for name in (get_args(part) or (part,)) if isinstance(name, str)
)
MONITORS: tuple[str, ...] = get_args(Monitor)

_BUDGET: JsonDict = {"identity": False}


class SearchConfig(BaseModel):
    """How a search goes on. The space has a table of its own in the file."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"identity": True}
    )

    objectives: tuple[Objective, ...] = ("val/macro_f1",)
    """What is to be as good as possible, of each trial's best epoch by the first of them: a validation metric, and with
    several a Pareto front, among them latency_ms (one image, measured), latency_onnx_ms and latency_openvino_ms (by a
    table of the machine, measured once: docs/compression.md) and parameters (trained and frozen ones)."""
    sampler: Literal["tpe", "gp", "cmaes", "random"] = "tpe"
    """Optuna's tree-structured Parzen estimator (multivariate, with a constant liar), Gaussian process, CMA-ES or
    chance. All are seeded by the job's seed."""
    startup_trials: Annotated[int, Field(ge=1)] = 10
    """Trials by chance before the sampler begins to learn."""
    scheduler: Literal["asha", "median", "none"] | None = None
    """Which trials end early: asha (arXiv:1810.05934), those worse than the median, or none; unset: asha for one
    objective and none for several."""
    grace_epochs: Annotated[int, Field(ge=1)] = 1
    """Epochs that every trial is trained for."""
    reduction_factor: Annotated[float, Field(gt=1.0)] = 3.0
    """asha: of so many trials that reach a rung one goes on, and each rung is so many times as many epochs."""
    median_trials: Annotated[int, Field(ge=1)] = 5
    """median: trials that must have come as far before one is ended."""
    reuse_dtype: Literal["fp32", "bf16"] = "fp32"
    """How the features of frozen stages are kept: fp32, to the bit the training without; or bf16, in half the space,
    with every feature rounded to it."""
    trials: Annotated[int, Field(ge=1, json_schema_extra=_BUDGET)] = 40
    """Most trials, the default configuration among them."""
    hours: Annotated[Annotated[float, Field(gt=0.0)] | None, Field(json_schema_extra=_BUDGET)] = None
    """Hours of this command after which no trial goes on; unset: no bound."""
    total_epochs: Annotated[Annotated[int, Field(ge=1)] | None, Field(json_schema_extra=_BUDGET)] = None
    """Epochs over all trials after which no trial goes on; unset: no bound."""
    max_concurrent_trials: Annotated[Annotated[int, Field(ge=1)] | None, Field(json_schema_extra=_BUDGET)] = None
    """Trials at a time; unset: as many as fit."""
    workers_per_trial: Annotated[Annotated[int, Field(ge=1)] | None, Field(json_schema_extra=_BUDGET)] = None
    """Workers of a trial; unset: cluster.num_workers."""
    gpus_per_worker: Annotated[float, Field(gt=0.0, le=1.0, json_schema_extra=_BUDGET)] = 1.0
    """Share of a GPU for each worker; below 1 several trials of one worker share a GPU and its memory."""
    reuse: Annotated[Literal["auto", "on", "off"], Field(json_schema_extra=_BUDGET)] = "auto"
    """Whether trials share the features of frozen stages: where it pays, as measured; always; never."""
    reuse_folder: Annotated[str, Field(json_schema_extra=_BUDGET)] = ""
    """A folder on each node for shared features; empty: one of this user's in the folder for temporary files."""
    reuse_gib: Annotated[Annotated[float, Field(gt=0.0)] | None, Field(json_schema_extra=_BUDGET)] = None
    """Most GiB of shared features on a node; unset: half of what is free, at most 64."""

    @field_validator("objectives")
    @classmethod
    def _objectives_differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError(f"search.objectives is empty; name at least one of {', '.join(MONITORS)}")
        if len(set(names)) < len(names):
            raise ValueError(f"search.objectives={list(names)} names one twice; remove it")
        if names[0] not in MONITORS:
            raise ValueError(
                f"search.objectives begins with {names[0]!r}, which is the same from the first epoch on; begin with "
                f"what training improves: {', '.join(MONITORS)}"
            )
        return names

    @model_validator(mode="after")
    def _schedulers_judge_by_one(self) -> "SearchConfig":
        if len(self.objectives) > 1 and self.scheduler in ("asha", "median"):
            raise ValueError(
                f"search.scheduler={self.scheduler} ends trials by one objective, and there are "
                f'{len(self.objectives)}; use scheduler = "none"'
            )
        if self.sampler == "cmaes" and len(self.objectives) > 1:
            raise ValueError("search.sampler=cmaes knows one objective; use tpe, gp or random")
        return self

    @property
    def ends_early(self) -> Literal["asha", "median", "none"]:
        """The scheduler with nothing left to choose."""
        return self.scheduler or ("asha" if len(self.objectives) == 1 else "none")


def is_maximized(objective: str) -> bool:
    """Whether more of it is better."""
    return objective != "val/loss" and objective in MONITORS


def best_value(objective: str, values: list[float]) -> float:
    """The best of some values; NaN only where all are."""
    values = [value for value in values if not math.isnan(value)] or values
    return max(values) if is_maximized(objective) else min(values)
