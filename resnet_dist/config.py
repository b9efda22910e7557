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
