"""The searches under a storage root, a row for each. One that cannot be read is a row, too."""

from dataclasses import dataclass
from datetime import UTC, datetime

from cluster.errors import StorageError
from cluster.storage.store import Store
from ray_jobs.errors import ConfigError, sentence
from ray_jobs.run.listing import MOST, Listing, listing_of
from ray_jobs.search.config import SearchConfig, best_value
from ray_jobs.search.records import SEARCHES, SearchDirectory, TrialRecord
from ray_jobs.search.toml import read_search_text
from resnet_dist.errors import RunError

_MOST_BYTES = 2**20
"""Of a search.toml."""


@dataclass(frozen=True)
class SearchRow:
    """A search, as its trials' records say."""

    name: str
    uri: str
    state: str
    """done: its budget is spent; unfinished: the same command goes on with it; damaged: something cannot be read."""
    trials: int = 0
    """That are over; a parameter set that was suggested again counts again."""
    wanted: int = 0
    epochs: int = 0
    """Of all trials."""
    objective: str = ""
    best: float | None = None
    """Of the trials that finished, or of all where none did."""
    updated: str = ""
    """When the newest trial's last record was made: UTC, ISO 8601; empty where it is unknown."""
    problem: str = ""


def list_searches(storage_root: str, limit: int = MOST) -> Listing[SearchRow]:
    """A row for each of at most `limit` searches, the first ones by name. A root that is not there has none."""
    store = Store.open(storage_root).child(SEARCHES)
    return listing_of(store, lambda name: _row(name, SearchDirectory(store.child(name))), limit)


def _row(name: str, directory: SearchDirectory) -> SearchRow:
    try:
        text = directory.store.read_or_none("search.toml", _MOST_BYTES)
        if text is None:
            raise RunError("it has no search.toml")
        config, _ = read_search_text(text.decode(), f"{directory.uri}/search.toml")
        records = directory.read_trials()
        updated = _updated(directory.began(), records)
    except (RunError, StorageError, ConfigError, ValueError, OverflowError, OSError) as error:
        return SearchRow(name, directory.uri, "damaged", problem=sentence(error))
    over = sum(1 + record.repeats for record in records if record.is_over)
    epochs = sum(len(record.history) for record in records)
    is_spent = over >= config.trials or (config.total_epochs is not None and epochs >= config.total_epochs)
    return SearchRow(
        name=name,
        uri=directory.uri,
        state="done" if is_spent else "unfinished",
        trials=over,
        wanted=config.trials,
        epochs=epochs,
        objective=config.objectives[0],
        best=_best(config, records),
        updated=updated,
    )


def _updated(began: float | None, records: list[TrialRecord]) -> str:
    """Raises ValueError, OverflowError or OSError where a damaged record names no time that there is."""
    times = [time for record in records for time in (record.started_s, record.ended_s) if time is not None]
    if began is None:
        return ""
    return datetime.fromtimestamp(began + max(times, default=0.0), UTC).isoformat(timespec="seconds")


def _best(config: SearchConfig, records: list[TrialRecord]) -> float | None:
    finished = [record for record in records if record.state == "finished"]
    for some in (finished, records):
        if values := [record.values[0] for record in some if record.values and record.values[0] is not None]:
            return best_value(config.objectives[0], values)
    return None
