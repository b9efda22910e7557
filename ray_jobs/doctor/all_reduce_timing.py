"""What sums over a group of processes took. Loads no torch: whoever asks from afar may have none.

Bandwidths are those of NVIDIA's nccl-tests (its doc/PERFORMANCE.md): algorithm bandwidth is size / time, and bus
bandwidth, which does not fall with the number of ranks and can be held against a cable's, is that times 2 (n - 1) / n.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Sums of one size."""

    size: int
    """Bytes that each rank holds."""
    seconds: float
    """The median over the rounds of the slowest rank's time."""
    ranks: int

    @property
    def algorithm_bandwidth(self) -> float:
        """Bytes a second."""
        return self.size / self.seconds

    @property
    def bus_bandwidth(self) -> float:
        """Bytes a second that every link carries; 0 for one rank."""
        return self.algorithm_bandwidth * 2.0 * (self.ranks - 1) / self.ranks
