"""Repairs a search: files made of its records are written again where missing, damaged or out of date."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from cluster.storage.store import Store
from ray_jobs.errors import ConfigError
from ray_jobs.job.identity import identity
from ray_jobs.job.toml import read_job_text
from ray_jobs.report.search_record import Comparison, read_search
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.records import SEAL
from ray_jobs.search.records import SearchDirectory, TrialRecord
from ray_jobs.search.results import (
    BEST,
    SEARCH,
    TABLE,
    SearchFacts,
    SlotPool,
    best_job,
    kept_trials,
    ranked,
    search_json,
    table_bytes,
    write_results,
)
from ray_jobs.search.space import job_with
from resnet_dist.errors import RunError
from resnet_dist.sealed_json import unsealed_if_sealed

_OF_ITS_START = {"made", "slots", "workers_per_trial", "latency"}
"""Keys of search.json that depend on the machine that wrote it: no reason to write it again."""


def repair_results(
    directory: SearchDirectory,
    facts: SearchFacts,
    records: Sequence[TrialRecord],
    slots: int,
    importance: Callable[[], dict[str, float] | None],
    judge: Callable[[TrialRecord, TrialRecord], dict[str, Any] | None],
) -> list[str]:
    """Compare the three files with the records; if one does not fit, write all again. Returns those that did not.

    The records hold neither the pool's times nor the final test nor importances. They are kept from a search.json that
    can be read; else `importance` and `judge`, which gets the best trial and the default, compute them again.
    """
    stored = _read(directory.store)
    pool = _pool(stored, slots)
    best = ranked(facts.config, records)[:1]
    known = {} if stored is None else {name: stored[name] for name in ("importance", "test")}
    expected = json.loads(json.dumps(search_json(facts, records, pool, None, None))) | known
    fits = {
        SEARCH: stored is not None
        and all(stored.get(each) == expected[each] for each in expected.keys() - _OF_ITS_START),
        TABLE: directory.store.read_or_none(TABLE) == table_bytes(facts, records),
        BEST: not best or _is_best(directory.store, facts, best[0]),
    }
    wrong = [name for name, is_right in fits.items() if not is_right]
    if not wrong:
        return []
    if not fits[SEARCH]:  # a search that was cut short may also have left losers' checkpoints
        _drop_losers(directory, facts, records)
        default = [record for record in records if record.is_default and record.values]
        if stored is None or stored["best"] != expected["best"] or stored["test"] is None:
            known["test"] = judge(best[0], default[0]) if best and default else None
        known["importance"] = importance()
    write_results(directory, facts, records, pool, known["importance"], known["test"])
    return wrong


def restore_records(
    directory: SearchDirectory,
    facts: SearchFacts,
    records: Sequence[TrialRecord],
    dataset: dict[str, Any],
    split_csv: str,
) -> None:
    """Make the records of kept trials anew where they are not as they were sealed: no start trains these again.

    Those of an earlier version, which sealed none, are left alone. `dataset` and `split_csv`: see `write_records`.
    """
    kept = kept_trials(facts.config, records)
    for record in records:
        run = RunDirectory(directory.trial(record.digest))
        if record.is_over and record.digest in kept and run.store.exists(SEAL) and not run.records.are_whole():
            run.write_records(job_with(facts.job, record.params), dataset, split_csv)


def stored_test(store: Store) -> Comparison | None:
    """How the best trial and the default did on the test split, as search.json says; None where it does not."""
    value = _read(store)
    return None if value is None else read_search(value).test


def _read(store: Store) -> dict[str, Any] | None:
    """search.json; None where it is missing or cannot be read."""
    if not store.exists(SEARCH):
        return None
    try:
        value = unsealed_if_sealed(store.read(SEARCH))
        read_search(value)
    except (ValueError, RunError):
        return None
    return value


def _pool(stored: dict[str, Any] | None, slots: int) -> SlotPool:
    if stored is None:
        return SlotPool(slots, 0.0, 0.0)
    pool = stored["pool"]
    return SlotPool(pool["slots"], pool["wall_s"], pool["startup_s"])


def _is_best(store: Store, facts: SearchFacts, best: TrialRecord) -> bool:
    """Whether best.toml trains as the best trial did. Its reader may change storage and threads."""
    if not store.exists(BEST):
        return False
    try:
        job = read_job_text(store.read(BEST).decode(), BEST)
    except (ConfigError, UnicodeDecodeError):
        return False
    wanted = best_job(facts, best)
    return job.name == wanted.name and identity(job, "") == identity(wanted, "")


def _drop_losers(directory: SearchDirectory, facts: SearchFacts, records: Sequence[TrialRecord]) -> None:
    if facts.job.checkpoint.keep_losers:
        return
    kept = kept_trials(facts.config, records)
    for record in records:
        if record.is_over and record.digest not in kept:
            directory.drop_checkpoints(record.digest)
