"""What `compress prune`, `plan` and `quantize` are asked for, checked before anything is imported that takes time."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from ray_jobs.errors import ConfigError
from resnet_dist.compression.planning.target import Target
from resnet_dist.model.architectures import SHAPES
from resnet_dist.model.structure import Structure

Scope = Literal["inner", "blocks", "all"]
MOST_ROUNDS = 10
MOST_THREADS = 1024
_LONGEST_S = 3600.0
_ROUNDS = 3
_ONE_ROUND = 0.75
"""Where so much is kept, one cut does."""


@dataclass(frozen=True)
class PruneRequest:
    """Raises ConfigError for values that nothing can be made of."""

    target: str
    """As `Target.parse` reads it."""
    scope: Scope = "inner"
    rounds: int | None = None
    """None: 3, or 1 where three quarters are kept."""
    floor: float = 0.25
    """Smallest share of a layer's channels that is kept."""
    score_microbatches: int = 64
    threads: int | None = None
    """Of the engine that a latency is of; None: all cores."""
    latency_table: str | None = None
    """A file; None: the one that is kept under the storage root for this machine."""

    def __post_init__(self) -> None:
        _ = self.parsed
        problems: list[str] = []
        if self.rounds is not None and not 1 <= self.rounds <= MOST_ROUNDS:
            problems.append(f"--rounds {self.rounds}: give a whole number in 1..{MOST_ROUNDS}")
        if not 0.0 < self.floor <= 1.0:
            problems.append(f"--floor {self.floor:g}: give a share of the channels in (0, 1], such as 0.25")
        if not 1 <= self.score_microbatches <= 100_000:
            problems.append(f"--score-microbatches {self.score_microbatches}: give a whole number in 1..100000")
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            problems.append(f"--threads {self.threads}: give a whole number in 1..{MOST_THREADS}")
        if self.latency_table is not None and self.parsed.kind != "latency":
            problems.append(
                f"--latency-table {self.latency_table}: {self.target} is no latency, so no table is used; remove it"
            )
        if problems:
            raise ConfigError("\n".join(problems))

    @property
    def parsed(self) -> Target:
        """Raises ConfigError where it is none."""
        try:
            return Target.parse(self.target)
        except ValueError as error:
            raise ConfigError(f"--target: {error}") from None

    def check_fits(self, structure: Structure) -> None:
        """Raise ConfigError where the scope cannot cut such a network."""
        if self.scope != "blocks" and SHAPES[structure.arch].groups > 1:
            raise ConfigError(
                f"--scope {self.scope} changes widths, and the grouped convolutions of {structure.arch} cannot change "
                "theirs; --scope blocks removes whole blocks"
            )

    def rounds_for(self, kept: float) -> int:
        """How many cuts, where a share `kept` of the cost is left at the end."""
        return self.rounds or (1 if kept >= _ONE_ROUND else _ROUNDS)

    @classmethod
    def of_words(cls, given: Mapping[str, str]) -> Self:
        """From flags and their values, as `words` has them; flags that are none of a pruning's do not count."""
        kinds = {"rounds": int, "floor": float, "score_microbatches": int, "threads": int}
        flags = {flag.removeprefix("--").replace("-", "_"): value for flag, value in given.items()}
        numbers = {name: kind(flags[name]) for name, kind in kinds.items() if name in flags}
        texts = {name: flags[name] for name in ("target", "scope", "latency_table") if name in flags}
        return cls(**texts, **numbers)  # pyright: ignore[reportArgumentType]

    @property
    def words(self) -> tuple[str, ...]:
        """Those of the command line that ask for the same; what is the default is left out but for the scope."""
        given = {"--target": self.target, "--scope": self.scope}
        unset = PruneRequest(self.target)
        for name in ("rounds", "floor", "score_microbatches", "threads", "latency_table"):
            if getattr(self, name) != getattr(unset, name):
                given[f"--{name.replace('_', '-')}"] = str(getattr(self, name))
        return tuple(word for pair in given.items() for word in pair)

    def to_json(self) -> dict[str, Any]:
        """What makes it another pruning: where a table lies does not, nor how a target is written."""
        found = {name: value for name, value in asdict(self).items() if name != "latency_table"}
        return {**found, "target": self.parsed.text}


@dataclass(frozen=True)
class QuantizeRequest:
    """What `compress quantize` is asked for."""

    always: bool = False
    """Train, also where ranges alone pass the gate."""
    max_loss: float | None = None
    """Points of top-1 that the result may lose; None: as many as it does."""


def check_max_loss(points: float | None) -> None:
    """Raise ConfigError for a --max-loss that nothing can be held to."""
    if points is not None and not 0.0 < points <= 100.0:
        raise ConfigError(f"--max-loss {points:g}: give points of top-1 in (0, 100], such as 1.0")


def check_showing(split: str | None, threads: int, seconds: float) -> None:
    """Raise ConfigError for what `compress show` cannot judge or measure by."""
    problems: list[str] = []
    if split not in (None, "train", "val", "test"):
        problems.append(f"--split {split}: choose train, val or test, or leave it out")
    if not 1 <= threads <= MOST_THREADS:
        problems.append(f"--threads {threads}: give a whole number in 1..{MOST_THREADS}")
    if not 0.0 <= seconds <= _LONGEST_S:
        problems.append(f"--seconds {seconds:g}: give seconds in 0..{_LONGEST_S:g}, such as 5; 0 times nothing")
    if problems:
        raise ConfigError("\n".join(problems))
