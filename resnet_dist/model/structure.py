"""What a network is built from besides its classes: architecture, gates, widths. Torch-free."""

from dataclasses import dataclass

from resnet_dist.model.architectures import Arch
from resnet_dist.model.widths import Widths


@dataclass(frozen=True)
class Structure:
    """Equal structures are equal networks but for their weights."""

    arch: Arch
    squeeze_excite: bool = False
    widths: Widths | None = None
    """None: the architecture's own."""

    @property
    def layer_widths(self) -> Widths:
        """Also where they are the architecture's own."""
        return self.widths or Widths.of(self.arch)
