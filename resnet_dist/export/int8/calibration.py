"""The images that 8-bit formats are made with. Without onnx: who exports no 8-bit format needs none."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from resnet_dist.quantisation.dialect import CPU, Range

if TYPE_CHECKING:
    import onnx


@dataclass
class Calibration:
    """Batches uint8 [N, height, width, 3] to take value ranges from; and val, labelled."""

    images: Sequence[NDArray[np.uint8]]
    val: Sequence[NDArray[np.uint8]]
    labels: NDArray[np.int64]
    trained: tuple[Range, ...] = ()
    """Ranges that a network learnt for, of its tensors in the order of computation; empty: they are taken from the
    images."""
    _known: dict[str, Range] = field(default_factory=dict[str, Range])

    def ranges(self, model: "onnx.ModelProto", tensors: Sequence[str]) -> dict[str, Range]:
        """Of tensors of a bundle's graph: it has one, so that each is looked at once for all formats."""
        from resnet_dist.export.int8.placement import place  # noqa: PLC0415 - onnx is an extra
        from resnet_dist.export.int8.ranges import ranges_on  # noqa: PLC0415

        if self.trained and not self._known:
            # A network learns with the quantisers of this dialect; the other one has some of them.
            self._known |= dict(zip(place(model, CPU).activations, self.trained, strict=True))
        if unknown := [name for name in tensors if name not in self._known]:
            self._known |= ranges_on(model, unknown, self.images)
        return {name: self._known[name] for name in tensors}
