"""What a pruning would give, as figures, before anything is trained. Torch-free. Open `describe` first."""

from dataclasses import dataclass, replace
from typing import Any

from resnet_dist.compression.planning.costs import CostModel, byte_costs, mac_costs, parameter_costs
from resnet_dist.compression.planning.options import Choices, Scores, WidthSpace
from resnet_dist.compression.planning.solve import Reachable, kept_share, reachable
from resnet_dist.compression.planning.target import Target
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths


@dataclass(frozen=True)
class Costs:
    """What a network costs."""

    parameters: float
    macs: float
    """Multiplications of one image."""
    bytes: float | None = None
    """Of a file with weights in fp32; None: no such file was measured."""
    milliseconds: float | None = None
    """Of one image, as a latency table predicts; None: there is no table."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "parameters": round(self.parameters),
            "macs": round(self.macs),
            "bytes": None if self.bytes is None else round(self.bytes),
            "milliseconds": self.milliseconds,
        }


@dataclass(frozen=True)
class Measured:
    """What only the network's own files tell, on this machine."""

    whole_bytes: int | None = None
    """Of the file of the network as it is, in the format that a target of bytes names."""
    latency: CostModel | None = None
    """Milliseconds, in the format that a target of latency names."""


@dataclass(frozen=True)
class Plan:
    """A network, what pruning would make of it, and what each costs."""

    before: Structure
    after: Structure
    target: Target
    choices: Choices
    costs_before: Costs
    costs_after: Costs
    kept_share: float
    """Of the scores in the scope, in [0, 1]."""
    reachable: Reachable
    """Of the cost that the target bounds."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "arch": self.before.arch,
            "squeeze_excite": self.before.squeeze_excite,
            "target": self.target.text,
            "scope": self.choices.scope,
            "multiple": self.choices.multiple,
            "floor": self.choices.floor,
            "before": {"widths": self.before.layer_widths.to_json(), **self.costs_before.to_json()},
            "after": {"widths": self.after.layer_widths.to_json(), **self.costs_after.to_json()},
            "kept_share": self.kept_share,
            "reachable": {"smallest": self.reachable.smallest, "largest": self.reachable.largest},
        }


@dataclass(frozen=True)
class Prices:
    """All cost models of a network."""

    parameters: CostModel
    macs: CostModel
    bytes: CostModel
    """Without a measured file: of weights alone."""
    has_file: bool
    latency: CostModel | None

    @classmethod
    def of(cls, space: WidthSpace, classes: int, measured: Measured) -> "Prices":
        """Of the network that a space starts from."""
        structure = space.structure
        return cls(
            parameter_costs(structure, classes),
            mac_costs(structure, classes, space.size),
            byte_costs(structure, classes, measured.whole_bytes),
            measured.whole_bytes is not None,
            measured.latency,
        )

    def of_target(self, target: Target) -> CostModel:
        """What a target bounds. Raises ValueError where it was not measured."""
        match target.kind:
            case "macs":
                return self.macs
            case "parameters":
                return self.parameters
            case "bytes":
                return self.bytes
            case "latency":
                if self.latency is None:
                    raise ValueError(
                        f"target {target.text} needs a latency table of format {target.engine} on this machine; "
                        "measure one, or take a target of macs"
                    )
                return self.latency

    def costs(self, widths: Widths) -> Costs:
        """Of a network with these widths."""
        return Costs(
            self.parameters.cost(widths),
            self.macs.cost(widths),
            self.bytes.cost(widths) if self.has_file else None,
            None if self.latency is None else self.latency.cost(widths),
        )


def describe(space: WidthSpace, scores: Scores, target: Target, prices: Prices, widths: Widths) -> Plan:
    """The plan of widths that were chosen. Raises ValueError for a target that was not measured."""
    before = space.structure
    return Plan(
        before,
        replace(before, widths=widths),
        target,
        space.choices,
        prices.costs(before.layer_widths),
        prices.costs(widths),
        kept_share(space, scores, widths),
        reachable(space, prices.of_target(target)),
    )
