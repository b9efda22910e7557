"""The images that 8-bit formats are made with. Without onnx: who exports no 8-bit format needs none."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from resnet_dist.export.int8.dialect import Range

if TYPE_CHECKING:
    import onnx


@dataclass
class Calibration:
    """Batches uint8 [N, height, width, 3] to take value ranges from; and val, labelled."""

    images: Sequence[NDArray[np.uint8]]
    val: Sequence[NDArray[np.uint8]]
    labels: NDArray[np.int64]
    _known: dict[str, Range] = field(default_factory=dict[str, Range])

    def ranges(self, model: "onnx.ModelProto", tensors: Sequence[str]) -> dict[str, Range]:
        """Of tensors of a bundle's graph: it has one, so that each is looked at once for all formats."""
        from resnet_dist.export.int8.ranges import ranges_on  # noqa: PLC0415 - onnx is an extra

        if unknown := [name for name in tensors if name not in self._known]:
            self._known |= ranges_on(model, unknown, self.images)
        return {name: self._known[name] for name in tensors}
