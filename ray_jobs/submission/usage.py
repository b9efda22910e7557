"""GPU hours of teams and jobs: what Kueue knows, and what runs have recorded of jobs that are gone. Prints nothing."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.kube.client.api import KubeApi
from cluster.kube.queues.usage import Period
from cluster.kube.queues.usage_view import RecordedHold, UsageView, view_usage
from cluster.storage.store import Store
from ray_jobs.errors import ConfigError
from ray_jobs.run.argument import RUNS
from ray_jobs.search.records import SEARCHES
from ray_jobs.submission.usage_record import UsageRecord, read_usage


@dataclass(frozen=True)
class RecordsRead:
    """Where records of runs were looked for."""

    root: str | None
    """The storage root; None: nowhere."""
    unreadable: int
    """Records that are damaged or of another version."""


@dataclass(frozen=True)
class Usage:
    """Hours of GPUs, and what they are taken from."""

    view: UsageView
    records: RecordsRead


def queue_usage(since_s: int, teams: Sequence[str], context: str | None, storage_root: str | None) -> Usage:
    """Hours of the last `since_s` seconds; `storage_root`: where runs have recorded what jobs used that are gone.

    Raises SubmissionError, TargetUnreachableError or StorageError, and ConfigError for a root without runs.
    """
    now = int(time.time())
    records = [] if storage_root is None else _records(storage_root)
    recorded = [_hold(each) for each in records if each is not None]
    view = view_usage(KubeApi.connect(context), Period(now - since_s, now), teams, recorded)
    return Usage(view, RecordsRead(storage_root, records.count(None)))


def _records(root: str) -> list[UsageRecord | None]:
    """What all runs and searches under a storage root have recorded."""
    store = Store.open(root)
    if not any(store.exists(folder) for folder in (RUNS, SEARCHES)):
        raise ConfigError(
            f"storage.root={root} has no {RUNS}/ and no {SEARCHES}/, so nothing is recorded there; give that of the "
            "teams' jobs"
        )
    return [
        record
        for folder in (RUNS, SEARCHES)
        for name in store.list(folder)
        for record in read_usage(store.child(f"{folder}/{name}"))
    ]


def _hold(record: UsageRecord) -> RecordedHold:
    held = record.held
    start, end = int(record.began.timestamp()), int(record.seen.timestamp())
    return RecordedHold(held.namespace, held.queue, held.job, held.resource, held.devices, start, end)
