"""The tree of a whole job: name, seed and a section for each concern. Imports neither torch, ray nor DALI."""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cluster.config import ClusterConfig, StorageConfig
from cluster.storage.folder_name import folder_name
from data_pipeline.config import AugmentationConfig, DataConfig
from ray_jobs.job.credentials import secrets_in_tree
from ray_jobs.job.tracker import TrackerConfig
from resnet_dist.compression.config import DistillationConfig
from resnet_dist.config import CheckpointConfig, EvaluationConfig, OptimizerConfig, ScheduleConfig, TrainingConfig
from resnet_dist.export.config import ExportConfig
from resnet_dist.model.config import FREEZABLE, FreezingConfig, ModelConfig, freezing_phases
from resnet_dist.model.weights_file import kind_of_weights

_NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}"


class JobConfig(BaseModel):
    """One job: what to train on which data, how, and where."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"identity": True},
        hide_input_in_errors=True,  # a value may be an address with a secret in it
    )

    name: Annotated[str | None, Field(json_schema_extra={"identity": False})] = None
    """Name of the run under storage.root; unset: <folder>-<arch>."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """What everything random is a function of."""
    data: DataConfig = DataConfig()
    """Which images, how they are split, ordered and sized."""
    augmentation: AugmentationConfig = AugmentationConfig()
    """How training images vary."""
    model: ModelConfig = ModelConfig()
    """The network and its first weights."""
    freezing: FreezingConfig = FreezingConfig()
    """Which stages keep their weights."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How gradients move weights."""
    schedule: ScheduleConfig = ScheduleConfig()
    """How the learning rate moves."""
    training: TrainingConfig = TrainingConfig()
    """The loop."""
    distillation: DistillationConfig = DistillationConfig()
    """Learning from a teacher, a trained run."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """When state is stored and how long it is kept."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How a model is judged."""
    export: ExportConfig = ExportConfig()
    """What a trained run is turned into."""
    tracker: TrackerConfig = TrackerConfig()
    """Where metrics are shown besides the run directory."""
    storage: StorageConfig = StorageConfig()
    """Where everything durable goes."""
    cluster: ClusterConfig = ClusterConfig()
    """Where it runs."""

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(_NAME, name):
            raise ValueError(
                f"name={name!r} must be 1 to 100 letters, digits, '.', '_' or '-' and not begin with a dot; "
                "choose another --name"
            )
        return name

    @model_validator(mode="after")
    def _addresses_hold_no_secret(self) -> "JobConfig":
        if problems := secrets_in_tree(self.model_dump()):
            raise ValueError("\n".join(problems))
        return self

    @model_validator(mode="after")
    def _quarter_turns_need_a_square(self) -> "JobConfig":
        height, width = self.data.input_size
        if self.augmentation.quarter_turns and height != width:
            raise ValueError(
                f"augmentation.quarter_turns=true turns an input of {height}x{width} (data.image_size x "
                f"data.image_width) into one of {width}x{height}, and all images of a batch have one shape; leave "
                "data.image_width unset, or turn it off"
            )
        return self

    @model_validator(mode="after")
    def _a_probe_ends(self) -> "JobConfig":
        probe, epochs = self.freezing.probe_epochs, self.training.epochs
        if self.freezing.preset == "linear_probe_then_finetune" and probe >= epochs:
            raise ValueError(
                f"freezing.probe_epochs={probe} leaves none of training.epochs={epochs} for fine-tuning; lower it, or "
                "train the head alone with freezing.freeze_depth=5 and no preset"
            )
        return self

    @model_validator(mode="after")
    def _classes_are_balanced_once(self) -> "JobConfig":
        training = self.training
        if self.data.sampling == "balanced" and (training.class_weights == "balanced" or training.logit_adjustment):
            other = (
                "training.class_weights=balanced"
                if training.class_weights == "balanced"
                else f"training.logit_adjustment={training.logit_adjustment}"
            )
            raise ValueError(
                f"data.sampling=balanced and {other} would each make up for rare classes, twice together; choose one"
            )
        return self

    @model_validator(mode="after")
    def _a_quantised_network_learns_whole(self) -> "JobConfig":
        if self.model.quantisation is not None and (problem := self._unfit_for_8_bits()):
            raise ValueError(f"model.quantisation=int8 {problem}")
        return self

    def _unfit_for_8_bits(self) -> str:
        model, training, export = self.model, self.training, self.export
        for _, policies in freezing_phases(self.freezing):
            for name, policy in zip(FREEZABLE, policies, strict=True):
                if policy != "trainable":
                    return (
                        f"rounds every layer, and freezing keeps {name} {policy}, so that it cannot make up for it; "
                        "set freezing.freeze_depth=0 and no preset"
                    )
        if model.weights == "none" or (model.widths is not None and kind_of_weights(model.weights) != "run"):
            return (
                f"keeps BatchNorm's statistics, and those of model.weights={model.weights} are of no trained network "
                "with these widths; name a trained run of them with model.weights"
            )
        if training.precision != "fp32":
            return f"rounds to steps that training.precision={training.precision} cannot tell apart; set it to fp32"
        if training.compile:
            return "changes its ranges by the epoch, and training.compile=true would compile each time; turn it off"
        floats = [name for name in export.formats if not name.endswith("int8")]
        if floats or export.int8_accuracy_drop is not None:
            what = f"formats={floats[0]}" if floats else f"int8_accuracy_drop={export.int8_accuracy_drop:g}"
            return (
                f"is for files in int8 throughout, and export.{what} asks for floating point; leave it out, or export "
                "the run that it came from"
            )
        return ""

    @model_validator(mode="after")
    def _synthetic_images_need_no_resize(self) -> "JobConfig":
        if self.data.source == "synthetic" and self.data.resize != "whole":
            raise ValueError(
                f"data.source=synthetic makes images of the final size, so data.resize={self.data.resize} "
                "has nothing to resize; use data.resize=whole"
            )
        return self


def run_name(job: JobConfig) -> str:
    """The run's name: `name`, or <folder>-<arch> with what a name may not hold replaced by "-"."""
    if job.name is not None:
        return job.name
    return f"{folder_name(job.data.root)[:70]}-{job.model.arch}"
