"""Configuration of export. Torch-free. None of it belongs to a run's identity: it changes no trained weight."""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Format = Literal[
    "torchscript",
    "torch_export",
    "onnx",
    "onnx_resize",
    "onnxruntime_int8",
    "onnx_tensorrt_int8",
    "openvino",
    "openvino_fp16",
    "openvino_bf16",
    "openvino_int8",
    "tensorrt",
    "tensorrt_int8",
]
FORMATS: tuple[Format, ...] = get_args(Format)


class ExportConfig(BaseModel):
    """What a trained run is turned into, and what it must live up to."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"identity": False}
    )

    formats: tuple[Format, ...] = ()
    """What is built; empty: all that this machine can build, but onnx_resize and those for TensorRT.
    openvino_bf16 is openvino's file with another hint; onnx_resize takes images of any size; tensorrt is fp16;
    onnx_tensorrt_int8 is what tensorrt_int8 is built from, and to be computed by TensorRT alone."""
    opset: Annotated[int, Field(ge=18, le=25)] = 20
    """ONNX operator set; below 18 Resize knows no antialiasing, above 25 no runtime here is known to read it."""
    calibration_images: Annotated[int, Field(ge=16, le=100_000)] = 300
    """int8: images that value ranges are taken from, drawn from the training split."""
    calibration_root: str = ""
    """int8: a folder of images to take value ranges from instead; relative to the working directory."""
    int8_cpu: Literal["auto", "any", "x86", "x86_vnni", "arm"] = "auto"
    """onnxruntime_int8, openvino_int8: the processors they are for. auto: such as this one; any: those with 8-bit dot
    products, x86 and ARM; x86: x86 without (one bit less for weights, so that 16-bit sums do not overflow). x86_vnni
    and arm are older words for any."""
    int8_accuracy_drop: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """openvino_int8: layers go back to floating point until top-1 on val falls by at most this; unset: none do."""
    int8_max_loss: Annotated[float, Field(ge=0.0, le=1.0)] = 0.005
    """Most top-1 on val, paired, that an int8 format may lose to the trained model."""
    noise_images: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Random images that each format is compared on besides val."""
    recall: tuple[str, ...] = ()
    """CLASS=RECALL, such as crack=0.99: the class is answered whenever its probability reaches a threshold that
    finds this share of it on val, and as few others as can be. Before all classes without a threshold, and never
    rejected. The exit code is 4 if the trained model or a format finds less on val."""
    costs: tuple[str, ...] = ()
    """CLASS=MISS:ALARM, such as crack=20:1: as recall, with the threshold of least cost on val, where a missed image
    costs MISS and a false alarm ALARM."""
    reject_below: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Answers less probable than this are no class: the image is for a person to look at. A class that reaches its
    threshold is answered all the same."""
    signing_key: str = ""
    """File of an elliptic-curve private key (PEM, P-256) that signs the bundle; empty: not signed."""

    @field_validator("formats")
    @classmethod
    def _formats_are_named_once(cls, formats: tuple[Format, ...]) -> tuple[Format, ...]:
        if len(set(formats)) < len(formats):
            raise ValueError(f"export.formats={', '.join(formats)} names one twice; remove it")
        return formats

    @field_validator("recall")
    @classmethod
    def _recalls_are_shares(cls, recalls: tuple[str, ...]) -> tuple[str, ...]:
        for each in recalls:
            if not 0.0 < _number(each.rpartition("=")[2]) <= 1.0 or not each.rpartition("=")[0]:
                raise ValueError(f"export.recall holds {each!r}; write CLASS=RECALL with a recall in (0, 1]")
        return recalls

    @field_validator("costs")
    @classmethod
    def _costs_are_pairs(cls, costs: tuple[str, ...]) -> tuple[str, ...]:
        for each in costs:
            name, _, pair = each.rpartition("=")
            miss, _, alarm = pair.partition(":")
            if not name or not all(0.0 < _number(cost) < float("inf") for cost in (miss, alarm)):
                raise ValueError(f"export.costs holds {each!r}; write CLASS=MISS:ALARM, both above 0")
        return costs

    @model_validator(mode="after")
    def _one_threshold_a_class(self) -> "ExportConfig":
        names = [each.rpartition("=")[0] for each in (*self.recall, *self.costs)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(
                f"export.recall and export.costs name {twice[0]!r} twice; a class has one threshold, remove one"
            )
        return self

    @property
    def weight_bits(self) -> int | None:
        """Of 8-bit formats for processors; None as this machine's needs."""
        return None if self.int8_cpu == "auto" else 7 if self.int8_cpu == "x86" else 8

    @property
    def recalls(self) -> dict[str, float]:
        """The recall asked for each class that has one."""
        return {name: _number(share) for name, _, share in (each.rpartition("=") for each in self.recall)}

    @property
    def cost_pairs(self) -> dict[str, tuple[float, float]]:
        """(of a miss, of a false alarm) for each class that has costs."""
        found = dict[str, tuple[float, float]]()
        for name, _, pair in (each.rpartition("=") for each in self.costs):
            miss, _, alarm = pair.partition(":")
            found[name] = (_number(miss), _number(alarm))
        return found


def _number(text: str) -> float:
    """NaN, which no range holds, for what is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
