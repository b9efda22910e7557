"""The runs under a storage root, a row for each, and what is known of one. A run that cannot be read is a row, too."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from cluster.config import StorageConfig
from cluster.errors import StorageError
from cluster.storage.lease import is_abandoned
from cluster.storage.store import Store
from ray_jobs.errors import sentence
from ray_jobs.run.argument import RUNS
from ray_jobs.run.directory import CHAIN, RunDirectory
from resnet_dist.checkpoint.manifest import stored_steps
from resnet_dist.checkpoint.progress import Best
from resnet_dist.errors import RunError
from resnet_dist.plain_json import json_object
from resnet_dist.run_records import Status

MOST = 200
"""Runs that a list reads unless told otherwise."""
_READERS = 8
"""At a time: each reads some small files, and object storage takes its time for each."""
_MOST_BYTES = 2**20
"""Of a status.json."""
_FOLDS, _STATUS = "folds.json", "status.json"


@dataclass(frozen=True)
class RunRow:
    """A run, as its status and its newest checkpoint say."""

    name: str
    uri: str
    state: str
    """That of status.json, with "interrupted" for a run that says "running" and that nobody holds; folds for a
    cross-validation and chain for one of compression, whose runs have names of their own; damaged where status or
    progress cannot be read; unknown for a run that says nothing of its state."""
    epoch: int = 0
    """Epochs done."""
    epochs: int = 0
    best: Best | None = None
    updated: str = ""
    """UTC, ISO 8601; empty where it is unknown."""
    problem: str = ""
    """What is damaged, or why the run failed; one line."""


class Updated(Protocol):
    """A row that says when what it is of was last updated."""

    @property
    def updated(self) -> str:
        """UTC, ISO 8601; empty where it is unknown."""
        ...


Row = TypeVar("Row", bound=Updated)


@dataclass(frozen=True)
class Listing(Generic[Row]):
    """Rows of some or all that a folder of storage holds, those that were last updated first."""

    uri: str
    rows: tuple[Row, ...]
    left_out: int
    """How many were not read."""


@dataclass(frozen=True)
class RunView:
    """All that a person asks of one run first."""

    row: RunRow
    status: Status | None
    arch: str = ""
    data_root: str = ""
    classes: tuple[str, ...] = ()
    checkpoints: tuple[int, ...] = ()
    """Steps of those that are stored."""
    evaluations: tuple[str, ...] = ()
    """What was judged: test, or <folder>.<split>."""
    has_bundle: bool = False
    problems: tuple[str, ...] = ()
    """What cannot be read; a line each."""


def list_runs(storage_root: str, limit: int = MOST) -> Listing[RunRow]:
    """A row for each of at most `limit` runs, the first ones by name. A root that is not there has none."""
    store = Store.open(storage_root).child(RUNS)
    return listing_of(store, lambda name: row_of(RunDirectory(store.child(name))), limit)


def listing_of(store: Store, row: Callable[[str], Row], limit: int) -> Listing[Row]:
    """`row` of each of the first `limit` folders by name; hidden ones are none."""
    names = [name for name in store.list("") if not name.startswith(".")]
    with ThreadPoolExecutor(_READERS) as readers:
        rows = sorted(readers.map(row, names[:limit]), key=lambda row: row.updated, reverse=True)
    return Listing(store.uri, tuple(rows), len(names[limit:]))


def row_of(run: RunDirectory) -> RunRow:
    """The row of a run, whatever state its files are in."""
    status: Status | None = None
    try:
        status = read_status(run)
        if status is None and not run.exists():
            kinds = {"folds": _FOLDS, "chain": CHAIN}
            state = next((kind for kind, file in kinds.items() if run.store.exists(file)), "damaged")
            problem = "it has no config.toml" if state == "damaged" else ""
            return RunRow(run.name, run.uri, state, problem=problem)
        progress = run.progress()
        is_interrupted = status is not None and status.state == "running" and is_abandoned(run.store)
    except (RunError, StorageError, ValueError) as error:
        return RunRow(run.name, run.uri, "damaged", problem=sentence(error), updated=status.updated if status else "")
    best = None if progress is None else progress.best
    if status is None:
        return RunRow(run.name, run.uri, "unknown", epoch=progress.epoch if progress else 0, best=best)
    problem = "".join(status.message.splitlines()[:1]) if status.state == "failed" else ""
    state = "interrupted" if is_interrupted else status.state
    return RunRow(run.name, run.uri, state, status.epoch, status.epochs, best, status.updated, problem)


def read_status(run: RunDirectory) -> Status | None:
    """The status, None where there is none. Raises RunError or ValueError for one that is damaged."""
    data = run.store.read_or_none(_STATUS, _MOST_BYTES)
    if data is None:
        return None
    return Status.from_json(json_object(data, f"{run.uri}/{_STATUS}", "start the run again, which writes it anew"))


def view_run(run: str, storage_root: str = StorageConfig().root) -> RunView:
    """What is known of a run: a path, a URI, or a name under the storage root. Raises RunError where there is none."""
    directory = RunDirectory.find(run, storage_root)
    found: dict[str, Any] = {}
    problems: list[str] = []

    def read(name: str, of: Any) -> None:
        try:
            found[name] = of()
        except (RunError, StorageError, ValueError) as error:
            problems.append(str(error))

    store = directory.store
    read("status", lambda: read_status(directory))
    read("job", directory.read_config)
    read("dataset", directory.read_dataset)
    read("checkpoints", lambda: tuple(stored_steps(store)))
    read("evaluations", lambda: store.list("evaluation"))
    read("has_bundle", lambda: store.exists("bundle/bundle.json"))
    job, dataset = found.get("job"), found.get("dataset")
    return RunView(
        row=row_of(directory),
        status=found.get("status"),
        arch=job.model.arch if job else "",
        data_root=job.data.root if job else "",
        classes=dataset.classes if dataset else (),
        checkpoints=found.get("checkpoints", ()),
        evaluations=tuple(name[:-5] for name in found.get("evaluations", ()) if name.endswith(".json")),
        has_bundle=found.get("has_bundle", False),
        problems=tuple(dict.fromkeys(problems)),
    )
