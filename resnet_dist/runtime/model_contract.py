"""What bundle.json says of a model's input and output, and whether a loaded model is that."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from resnet_dist.runtime.errors import BundleError
from resnet_dist.runtime.preprocess import MOST_SIDE

INPUT, OUTPUT = "images", "logits"
MOST_IMAGES = 1024
"""Of a batch."""

_Side = Annotated[int, Field(ge=1, le=MOST_SIDE)]


@dataclass(frozen=True)
class InputContract:
    """`input` of bundle.json: uint8 images [N, height, width, 3], RGB."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    dtype: Literal["uint8"]
    layout: Literal["NHWC"]
    colour: Literal["RGB"]
    height: _Side
    width: _Side
    most_images: Annotated[int, Field(ge=1)]
    """Of a batch."""
    preprocess: Literal["preprocess.json"]
    """The file that says how an image becomes this."""


@dataclass(frozen=True)
class OutputContract:
    """`output` of bundle.json: float32 logits [N, classes]."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    dtype: Literal["float32"]
    classes: Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that a loaded model takes or gives."""

    name: str
    dtype: str
    """In numpy's words where it is one of the contract's, else in the runtime's."""
    shape: tuple[int | None, ...] | None
    """None: any number; in place of all: of any rank."""

    def __str__(self) -> str:
        shape = "any shape" if self.shape is None else f"[{', '.join(str(side or 'any') for side in self.shape)}]"
        return f"{self.name} {self.dtype} {shape}"


@dataclass(frozen=True)
class ModelContract:
    """What a model of a bundle takes and gives."""

    place: str
    """The model's file, for people."""
    size: tuple[int, int] | None
    """Height and width of images; None: any, for the model resizes them."""
    classes: int | None
    """Logits of an image; None where nothing says how many there are."""
    input_name: str = INPUT
    output_name: str = OUTPUT

    def require(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        """Raise BundleError for a model of other inputs or outputs: names, types and shapes."""
        shape = (None, *(self.size or (None, None)), 3)
        self._require_one("takes", inputs, TensorSpec(self.input_name, "uint8", shape))
        classes = self.classes
        if classes is None and len(outputs) == 1 and outputs[0].shape is not None and len(outputs[0].shape) == 2:
            classes = outputs[0].shape[1]
        self._require_one("gives", outputs, TensorSpec(self.output_name, "float32", (None, classes)))

    def _require_one(self, verb: str, found: Sequence[TensorSpec], wanted: TensorSpec) -> None:
        if list(found) != [wanted]:
            raise BundleError(
                f"{self.place} {verb} {' and '.join(map(str, found)) or 'nothing'}, but bundle.json says {wanted}; get "
                "the bundle from its source, or export the run again"
            )
