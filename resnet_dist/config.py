"""Configuration of training, checkpoints and evaluation; that of the model is `resnet_dist.model.config`. Torch-free.

`json_schema_extra={"identity": ...}` says whether a field belongs to a run's identity: what changes
the trained weights does, where and how they are computed does not. A class gives its fields' default.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Monitor = Literal["val/top1", "val/macro_f1", "val/balanced_accuracy", "val/loss"]


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
    stage_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Discriminative learning rates (arXiv:1801.06146): each stage's rate over that of the one behind it; the head has
    the full rate, layer4 this share of it, layer3 its square, and so on to the stem."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "OptimizerConfig":
        if self.nesterov and (self.kind != "sgd" or self.momentum == 0.0):
            raise ValueError(
                f"optimizer.nesterov=true needs optimizer.kind=sgd and momentum above 0, not {self.kind} "
                f"with {self.momentum}; set optimizer.nesterov=false"
            )
        return self


class ScheduleConfig(BaseModel):
    """How the learning rate moves: by the step, and on a plateau by a validation metric."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"identity": True}
    )

    kind: Literal["cosine", "one_cycle", "constant", "step", "polynomial", "plateau", "cosine_then_plateau"] = "cosine"
    """Warm-up, then: cosine to the final rate; constant; step, the rate times step_factor every step_epochs;
    polynomial to the final rate; plateau, the rate times plateau_factor when plateau_monitor has not improved for
    plateau_patience epochs; cosine_then_plateau, cosine over schedule.epochs, fewer than training.epochs, and plateau
    beyond. Or one_cycle
    (arXiv:1708.07120), which has its own rise."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Epochs the schedule spans; unset: training.epochs of the run's first start. Beyond it the final rate holds."""
    warmup_epochs: Annotated[float, Field(ge=0.0)] = 1.0
    """Linear warm-up of all kinds but one_cycle, in epochs; cut to the schedule's length."""
    one_cycle_rise: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    """One-cycle: share of the steps in which the rate rises."""
    initial_factor: Annotated[float, Field(gt=0.0, le=1.0)] = 0.04
    """First learning rate over the highest (warm-up and one-cycle)."""
    final_factor: Annotated[float, Field(ge=0.0, le=1.0)] = 1e-4
    """Final learning rate over the highest (cosine, one-cycle, polynomial; the floor of plateau). cosine_then_plateau
    goes on from there: choose it well above 0, such as 0.05."""
    step_epochs: Annotated[float, Field(gt=0.0)] = 3.0
    """step: epochs between two steps, counted from the end of warm-up."""
    step_factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """step: what the rate is multiplied by."""
    polynomial_power: Annotated[float, Field(gt=0.0)] = 2.0
    """polynomial: the exponent; 1 is a straight line."""
    plateau_monitor: Monitor = "val/loss"
    """plateau: the validation metric that must improve."""
    plateau_factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    """plateau: what the rate is multiplied by."""
    plateau_patience: Annotated[int, Field(ge=0)] = 2
    """plateau: epochs without an improvement that are waited for."""
    plateau_min_delta: Annotated[float, Field(ge=0.0)] = 1e-4
    """plateau: what counts as an improvement of the metric."""
    plateau_floor: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    """cosine_then_plateau: lowest learning rate over the cosine's final one."""


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
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """fp32; or bf16 or fp16 autocast with fp32 weights, fp16 with a loss scale that adapts."""
    activation_checkpointing: bool = False
    """Keep only each block's input for the backward pass and compute the rest again: less memory, more time."""
    compile: bool = False
    """Compile trunk and trained stages with torch.compile; needs a C++ compiler."""
    reduction: Literal["exact", "overlapped"] | None = None
    """How gradients of workers are summed: exact (the same at any worker count), or overlapped
    (DistributedDataParallel); unset: exact on CPUs, overlapped on GPUs."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the target spread evenly over the classes."""
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    """Cross entropy, or focal loss (arXiv:1708.02002)."""
    focal_gamma: Annotated[float, Field(ge=0.0, le=10.0)] = 2.0
    """focal: the exponent of 1 - p; 0 is cross entropy."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: a sample counts by samples / (classes * samples of its class), which is 1 on average. A mixed sample's
    two losses are weighted each by its own label's weight."""
    logit_adjustment: Annotated[float, Field(ge=0.0, le=4.0)] = 0.0
    """tau of logit adjustment (arXiv:2007.07314): tau * log of each class's share is added to its logit while
    training; 0: off, 1: for the balanced error."""
    mixup_alpha: Annotated[float, Field(ge=0.0, le=4.0)] = 0.0
    """Mixup (arXiv:1710.09412) of neighbouring samples with a factor from Beta(alpha, alpha); 0: off."""
    cutmix_alpha: Annotated[float, Field(ge=0.0, le=4.0)] = 0.0
    """CutMix (arXiv:1905.04899) of neighbouring samples with an area from Beta(alpha, alpha); 0: off. With mixup on
    too, each pair has one of them, equally likely."""
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Decay per step of an exponential moving average of the weights, which is then what is judged; unset: off."""
    early_stopping: Annotated[bool, Field(json_schema_extra={"identity": False})] = False
    """End when early_stopping_monitor has not improved for early_stopping_patience epochs."""
    early_stopping_monitor: Annotated[Monitor, Field(json_schema_extra={"identity": False})] = "val/loss"
    """The validation metric that must improve."""
    early_stopping_patience: Annotated[int, Field(ge=1, json_schema_extra={"identity": False})] = 5
    """Epochs without an improvement after which training ends."""
    early_stopping_min_delta: Annotated[float, Field(ge=0.0, json_schema_extra={"identity": False})] = 0.0
    """What counts as an improvement of the metric."""
    max_skipped_steps: Annotated[int, Field(ge=0, json_schema_extra={"identity": False})] = 10
    """Steps in a row that may be left out because a loss or gradient is not finite, before training ends with the
    names of the last batch's images."""
    log_every_steps: Annotated[int, Field(ge=1, json_schema_extra={"identity": False})] = 10
    """Steps between two records of the training metrics."""

    @model_validator(mode="after")
    def _focal_loss_has_hard_targets(self) -> "TrainingConfig":
        if self.loss == "focal" and self.label_smoothing:
            raise ValueError(
                f"training.loss=focal and training.label_smoothing={self.label_smoothing} contradict each other: focal "
                "loss weighs a sample by the probability of its one label; set label_smoothing=0 or loss=cross_entropy"
            )
        return self

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
    at_end_s: Annotated[float, Field(ge=0.0, le=3600.0)] = 20.0
    """Seconds that Ctrl-C or SIGTERM may take to store a last checkpoint, if steps would be lost without it; 0: none is
    stored."""
    keep_last: Annotated[int, Field(ge=1)] = 2
    """Newest checkpoints kept."""
    keep_losers: bool = False
    """In a search: keep the checkpoints of all trials, and not only of the default, the best and the Pareto front."""
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
