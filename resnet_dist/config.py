"""Configuration of the model, its training, checkpoints and evaluation. Torch-free.

`json_schema_extra={"identity": ...}` says whether a field belongs to a run's identity: what changes
the trained weights does, where and how they are computed does not. A class gives its fields' default.
"""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Arch = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
]
ARCHS: tuple[str, ...] = get_args(Arch)
Monitor = Literal["val/top1", "val/macro_f1", "val/balanced_accuracy", "val/loss"]


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


class FreezingConfig(BaseModel):
    """Which stages keep their weights."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"identity": True}
    )

    freeze_depth: Annotated[int, Field(ge=0, le=5)] = 0
    """0 freezes nothing, 1 the stem, 2 also layer1, and so on to 5: all but the head."""


class OptimizerConfig(BaseModel):
    """How gradients move weights."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"identity": True}
    )

    kind: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum, or AdamW (arXiv:1711.05101)."""
    learning_rate: Annotated[float, Field(gt=0.0)] = 0.01
    """The schedule's highest learning rate."""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """SGD's momentum."""
    nesterov: bool = False
    """SGD with Nesterov's momentum."""
    betas: tuple[Annotated[float, Field(ge=0.0, lt=1.0)], Annotated[float, Field(ge=0.0, lt=1.0)]] = (0.9, 0.999)
    """AdamW's decay rates of its first and second moments."""
    eps: Annotated[float, Field(gt=0.0)] = 1e-8
    """AdamW's addend to the denominator."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-4
    """Weight decay of convolution and linear weights; biases and norms have none."""
    clip_norm: Annotated[float, Field(gt=0.0)] | None = None
    """Largest L2 norm of the whole gradient; unset: no clipping."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "OptimizerConfig":
        if self.nesterov and (self.kind != "sgd" or self.momentum == 0.0):
            raise ValueError(
                f"optimizer.nesterov=true needs optimizer.kind=sgd and momentum above 0, not {self.kind} "
                f"with {self.momentum}; set optimizer.nesterov=false"
            )
        return self


class ScheduleConfig(BaseModel):
    """How the learning rate moves; a pure function of the step."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"identity": True}
    )

    kind: Literal["cosine", "one_cycle", "constant"] = "cosine"
    """Warm-up then cosine to the final rate; one-cycle (arXiv:1708.07120); or warm-up then constant."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Epochs the schedule spans; unset: training.epochs of the run's first start. Beyond it the final rate holds."""
    warmup_epochs: Annotated[float, Field(ge=0.0)] = 1.0
    """Linear warm-up of cosine and constant, in epochs; cut to the schedule's length."""
    one_cycle_rise: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    """One-cycle: share of the steps in which the rate rises."""
    initial_factor: Annotated[float, Field(gt=0.0, le=1.0)] = 0.04
    """First learning rate over the highest (warm-up and one-cycle)."""
    final_factor: Annotated[float, Field(ge=0.0, le=1.0)] = 1e-4
    """Final learning rate over the highest (cosine and one-cycle)."""


class TrainingConfig(BaseModel):
    """The loop."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"identity": True}
    )

    epochs: Annotated[int, Field(ge=1, json_schema_extra={"identity": False})] = 10
    """Passes over the training split. Raise it and start again to continue a finished run."""
    global_batch_size: Annotated[int, Field(ge=2, le=2**20)] = 64
    """Samples per optimizer step over all workers."""
    microbatch_size: Annotated[int, Field(ge=2)] = 32
    """Samples per forward and backward pass, and of one BatchNorm statistic: even, divides global_batch_size."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """fp32, or bf16 autocast with fp32 weights."""
    reduction: Literal["exact", "overlapped"] | None = None
    """How gradients of workers are summed: exact (float64, the same at any worker count), or overlapped
    (DistributedDataParallel); unset: exact on CPUs, overlapped on GPUs."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the target spread evenly over the classes."""
    mixup_alpha: Annotated[float, Field(ge=0.0, le=4.0)] = 0.0
    """Mixup (arXiv:1710.09412) of neighbouring samples with a factor from Beta(alpha, alpha); 0: off."""
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Decay per step of an exponential moving average of the weights, which is then what is judged; unset: off."""
    log_every_steps: Annotated[int, Field(ge=1, json_schema_extra={"identity": False})] = 10
    """Steps between two records of the training metrics."""

    @model_validator(mode="after")
    def _microbatches_fill_the_batch(self) -> "TrainingConfig":
        whole, size = self.global_batch_size, self.microbatch_size
        if size % 2 or whole % size:
            fits = [n for n in range(2, whole + 1, 2) if whole % n == 0]
            remedy = (
                f"use {' or '.join(str(n) for n in sorted(sorted(fits, key=lambda n: abs(n - size))[:2]))}"
                if fits
                else "make training.global_batch_size even"
            )
            rule = "is odd" if size % 2 else f"does not divide training.global_batch_size={whole}"
            raise ValueError(f"training.microbatch_size={size} {rule}; {remedy}")
        return self


class CheckpointConfig(BaseModel):
    """When a run's state is stored and how long it is kept."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"identity": False}
    )

    every_epochs: Annotated[int, Field(ge=1)] = 1
    """Epochs between checkpoints; the last epoch always has one."""
    every_steps: Annotated[int, Field(ge=1)] | None = None
    """Steps between checkpoints within an epoch; unset: none by steps."""
    every_minutes: Annotated[float, Field(gt=0.0)] | None = 10.0
    """Minutes between checkpoints within an epoch; unset: none by time."""
    keep_last: Annotated[int, Field(ge=1)] = 2
    """Newest checkpoints kept."""
    monitor: Monitor = "val/top1"
    """The validation metric that says which epoch is best; the best checkpoint is always kept."""


class EvaluationConfig(BaseModel):
    """How a model is judged."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"identity": False}
    )

    batch_size: Annotated[int, Field(ge=1)] = 64
    """Samples per forward pass; batches are cut by global index, whatever the worker count."""
    bootstrap_samples: Annotated[int, Field(ge=100, le=100_000)] = 1000
    """Resamples behind each 95 % interval."""
