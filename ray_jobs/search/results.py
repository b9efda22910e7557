"""What a search has come to: search.json for reports, trials.parquet for notebooks, best.toml for the next training."""

# pyarrow carries no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pyarrow
from pyarrow import parquet

from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import print_config
from ray_jobs.search.config import SearchConfig, is_maximized
from ray_jobs.search.latency import latency_how
from ray_jobs.search.parameter import text_of
from ray_jobs.search.records import SCHEMA, SearchDirectory, TrialRecord
from ray_jobs.search.space import Space, job_with
from resnet_dist.plain_json import plain_number, plain_numbers

BEST = "best.toml"
TABLE = "trials.parquet"
SEARCH = "search.json"


@dataclass(frozen=True)
class SlotPool:
    """How the slots spent their time, in seconds."""

    slots: int
    wall_s: float
    startup_s: float
    """Until the first worker group of each slot could serve, added up."""


@dataclass(frozen=True)
class SearchFacts:
    """What is the same for all trials of a search."""

    name: str
    job: JobConfig
    """The default configuration, resolved."""
    config: SearchConfig
    space: Space
    classes: int
    train: int
    val: int


def ranked(config: SearchConfig, records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Trials with a value of the first objective, the best one first: finished ones, then those ended early."""
    valued = [record for record in records if _value(record) is not None]
    sign = -1.0 if is_maximized(config.objectives[0]) else 1.0
    return sorted(valued, key=lambda each: (each.state != "finished", sign * (_value(each) or 0.0), each.number))


def pareto_front(config: SearchConfig, records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Finished trials that no other one is at least as good as in everything and better in something."""
    signs = [1.0 if is_maximized(name) else -1.0 for name in config.objectives]
    points: list[tuple[TrialRecord, list[float]]] = []
    for record in records:
        values = [value for value in record.values if value is not None and math.isfinite(value)]
        if record.state == "finished" and len(values) == len(signs):
            points.append((record, [sign * value for sign, value in zip(signs, values, strict=True)]))

    def is_beaten(own: list[float]) -> bool:
        return any(all(o >= m for o, m in zip(other, own, strict=True)) and other != own for _, other in points)

    return [record for record, own in points if not is_beaten(own)]


def kept_trials(config: SearchConfig, records: Sequence[TrialRecord]) -> set[str]:
    """Digests of the trials whose checkpoints stay: the default, the best, and the Pareto front."""
    best = ranked(config, records)[:1]
    front = pareto_front(config, records) if len(config.objectives) > 1 else []
    return {record.digest for record in [*best, *front, *(each for each in records if each.is_default)]}


def best_job(facts: SearchFacts, best: TrialRecord) -> JobConfig:
    """A complete job that trains as the best trial did."""
    return job_with(facts.job, best.params).model_copy(update={"name": f"{facts.name[:95]}-best"})


def write_results(
    directory: SearchDirectory,
    facts: SearchFacts,
    records: Sequence[TrialRecord],
    pool: SlotPool,
    importance: dict[str, float] | None,
    test: dict[str, Any] | None = None,
) -> None:
    """Replace the three files; `test` as `compare_on_test` gives it."""
    best = ranked(facts.config, records)[:1]
    if best:
        directory.store.write(BEST, print_config(best_job(facts, best[0])).encode())
    directory.store.write(TABLE, table_bytes(facts, records))
    directory.write_sealed(SEARCH, search_json(facts, records, pool, importance, test))


def search_json(
    facts: SearchFacts,
    records: Sequence[TrialRecord],
    pool: SlotPool,
    importance: dict[str, float] | None,
    test: dict[str, Any] | None,
) -> dict[str, Any]:
    """What search.json holds."""
    config, job = facts.config, facts.job
    best = ranked(config, records)[:1]
    spans = [_span(record) for record in records]
    trained = sum(len(record.history) for record in records)
    return {
        "schema": SCHEMA,
        "name": facts.name,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "job": {
            "arch": job.model.arch,
            "epochs": job.training.epochs,
            "image_size": list(job.data.input_size),
            "train": facts.train,
            "val": facts.val,
            "classes": facts.classes,
        },
        "objectives": [
            {"metric": name, "direction": "maximize" if is_maximized(name) else "minimize"}
            for name in config.objectives
        ],
        "latency": {"how": how} if (how := latency_how(job, config.objectives)) else None,
        "space": facts.space.to_json(),
        "sampler": config.sampler,
        "scheduler": config.ends_early,
        "slots": pool.slots,
        "workers_per_trial": job.cluster.num_workers,
        "trials": [_trial_json(record, len(config.objectives)) for record in records],
        "best": best[0].number if best else None,
        "front": [record.number for record in pareto_front(config, records)] if len(config.objectives) > 1 else [],
        "importance": importance,
        "pool": {
            "slots": pool.slots,
            "wall_s": pool.wall_s,
            "startup_s": pool.startup_s,
            "waiting_s": sum(waited for waited, _ in spans),
            "training_s": sum(trained_s for _, trained_s in spans),
        },
        "reuse": _reuse(records),
        "epochs": {"trained": trained, "full_search": len(records) * job.training.epochs},
        "test": test,
    }


def _trial_json(record: TrialRecord, objectives: int) -> dict[str, Any]:
    return {
        "number": record.number,
        "digest": record.digest,
        "state": record.state,
        "ended_by": record.ended_by,
        "is_default": record.is_default,
        "params": {name: list(value) if isinstance(value, tuple) else value for name, value in record.params.items()},
        "values": [None if value is None else plain_number(value) for value in record.values]
        + [None] * (objectives - len(record.values)),
        "history": [plain_numbers(epoch) for epoch in record.history],
        "epochs": len(record.history),
        "reused_record": record.repeats > 0,
        "slot": record.slot,
        "queued_s": record.queued_s,
        "started_s": record.started_s,
        "ended_s": record.ended_s,
        "error": record.error,
    }


def table_bytes(facts: SearchFacts, records: Sequence[TrialRecord]) -> bytes:
    """What trials.parquet holds: to the byte the same for the same records and version of pyarrow."""
    rows: dict[str, list[Any]] = {
        "number": [record.number for record in records],
        "digest": [record.digest for record in records],
        "state": [record.state for record in records],
        "ended_by": [record.ended_by for record in records],
        "is_default": [record.is_default for record in records],
        "epochs": [len(record.history) for record in records],
        "slot": [record.slot for record in records],
        "queued_s": [record.queued_s for record in records],
        "started_s": [record.started_s for record in records],
        "ended_s": [record.ended_s for record in records],
        "error": [record.error for record in records],
    }
    for place, name in enumerate(facts.config.objectives):
        rows[name] = [record.values[place] if place < len(record.values) else None for record in records]
    for parameter in facts.space.parameters:
        values = [record.params.get(parameter.field) for record in records]
        plain = not any(isinstance(value, bool | str | tuple) for value in values)
        absent = [parameter.field not in record.params for record in records]
        rows[parameter.field] = (
            [None if value is None else float(value) for value in values]  # pyright: ignore[reportArgumentType]
            if plain
            else [None if none else text_of(value) for value, none in zip(values, absent, strict=True)]
        )
    file = BytesIO()
    parquet.write_table(pyarrow.table(rows), file)
    return file.getvalue()


def _reuse(records: Sequence[TrialRecord]) -> dict[str, float] | None:
    counts = [record.reuse for record in records if record.reuse]
    if not counts:
        return None
    hits, misses = (int(sum(each[name] for each in counts)) for name in ("hits", "misses"))
    computing, reading = (sum(each[name] for each in counts) for name in ("computing_s", "reading_s"))
    saved = hits * computing / misses - reading if misses else 0.0
    stored = int(sum(each["stored_bytes"] for each in counts))
    return {"hits": hits, "misses": misses, "stored_bytes": stored, "saved_s": max(saved, 0.0)}


def _span(record: TrialRecord) -> tuple[float, float]:
    """Seconds waited and trained, where they are known."""
    if record.queued_s is None or record.started_s is None:
        return 0.0, 0.0
    return record.started_s - record.queued_s, (record.ended_s or record.started_s) - record.started_s


def _value(record: TrialRecord) -> float | None:
    value = record.values[0] if record.values else None
    return value if value is not None and math.isfinite(value) and record.state in ("finished", "stopped") else None
