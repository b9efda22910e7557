"""The latency table of a target: read from storage, or measured on this machine and kept there."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from cluster.storage.store import Store, child_uri
from ray_jobs.compression.request import PruneRequest
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from resnet_dist.compression.latency.fit import fit_to_latency, measure_by
from resnet_dist.compression.latency.measuring import Stopwatch, measure_table
from resnet_dist.compression.latency.table import LatencyTable
from resnet_dist.compression.latency.timed_graphs import Fingerprint, fingerprint
from resnet_dist.compression.planning.options import Scores, WidthSpace
from resnet_dist.compression.planning.target import LatencyEngine, Target
from resnet_dist.export.benchmarking.machine_load import CALM
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths
from resnet_dist.runtime.engines import usable_cores

FOLDER = "latency-tables"
_MOST_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Latency:
    """A table, and the engine that it is of."""

    table: LatencyTable
    stopwatch: Stopwatch
    say: Callable[[str], None]

    def fitted(
        self, space: WidthSpace, scores: Scores, target: Target, origin: Structure
    ) -> tuple[Widths, dict[str, float]]:
        """The widths whose whole network, measured by turns with `origin`, is nearest to the target; and milliseconds
        of both: "before", "after" and "wanted". A network further than 5 % from the target is said aloud."""
        found = fit_to_latency(space, scores, self.table, target, measure_by(self.table), origin)
        best = found.best
        for each in found.attempts:
            self.say(
                f"measured {each.measured:.3f} ms, wanted {each.wanted:.3f} ms, predicted {each.predicted:.3f} ms; "
                f"{each.ratio:.3f} of the network before all pruning"
            )
        if not found.is_within:
            self.say(
                f"warning: the nearest network is {100 * best.excess:+.1f} % off {target.text} after "
                f"{len(found.attempts)} tries; the machine may be busy: measure again when it is quiet"
            )
        return best.widths, {"before": best.dense, "after": best.measured, "wanted": best.wanted}


def latency_of(
    request: PruneRequest, structure: Structure, classes: int, job: JobConfig, say: Callable[[str], None]
) -> Latency:
    """The table for a network's architecture, the job's image size, and the engine and threads of the request.

    Raises RuntimeMissingError where the engine is not installed; RunError for a table that is damaged or of another
    machine, ConfigError for one of another network.
    """
    engine, size = cast("LatencyEngine", request.parsed.engine), job.data.input_size
    stopwatch = Stopwatch(engine, request.threads or usable_cores())
    here = fingerprint(engine, stopwatch.threads)
    if request.latency_table is not None:
        path = Path(request.latency_table)
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"--latency-table {path} is no file of at most {_MOST_BYTES} bytes; name one, or none")
        table = LatencyTable.load(path.read_bytes(), here, str(path))
        _check_fits(table, structure, classes, size, str(path))
        return Latency(table, stopwatch, say)
    return Latency(kept_table(job.storage.root, structure, classes, size, stopwatch, say), stopwatch, say)


def kept_table(
    storage_root: str,
    structure: Structure,
    classes: int,
    size: tuple[int, int],
    stopwatch: Stopwatch,
    say: Callable[[str], None] = lambda _: None,
) -> LatencyTable:
    """The table of this machine that is kept under the storage root, measured now unless it is there.

    Of several that are measured at the same time, the one that is stored first counts.
    """
    here = fingerprint(stopwatch.engine, stopwatch.threads)
    store = Store.open(storage_root).child(FOLDER)
    gates = "-gates" if structure.squeeze_excite else ""
    name = f"{structure.arch}{gates}-{classes}-{size[0]}x{size[1]}-{stopwatch.engine}-{_digest(here)}.json"
    place = child_uri(store.uri, name)
    if (data := store.read_or_none(name, _MOST_BYTES)) is None:
        say(f"measuring {stopwatch.engine} on this machine, a minute or two; kept as {place}")
        found = measure_table(structure, classes, size, stopwatch, say=say).to_text().encode()
        if (data := store.read_or_none(name, _MOST_BYTES)) is None:
            store.write(name, found)
            data = found
    table = LatencyTable.load(data, here, place)
    if table.busy_cores > CALM:
        say(
            f"warning: {place} was measured while other work kept {table.busy_cores:.1f} of {here.cores} cores busy, "
            "which slows some parts more than others; delete it to measure again on an idle machine"
        )
    return table


def _check_fits(table: LatencyTable, structure: Structure, classes: int, size: tuple[int, int], place: str) -> None:
    own = table.arch, table.squeeze_excite, table.classes, table.size
    wanted = structure.arch, structure.squeeze_excite, classes, size
    if own != wanted:
        raise ConfigError(
            f"--latency-table {place} is of {_words(*own)}, and the run is of {_words(*wanted)}; name another one, or "
            "leave it out: then it is measured"
        )


def _digest(machine: Fingerprint) -> str:
    return hashlib.sha256(machine.text.encode()).hexdigest()[:12]


def _words(arch: str, gates: bool, classes: int, size: tuple[int, int]) -> str:
    return f"a {arch} {'with gates ' if gates else ''}of {classes} classes at {size[0]}x{size[1]}"
