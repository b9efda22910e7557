"""`resnet-dist data diff A B`: what differs between two data sets, and which images are copies of the other's test."""

# pyarrow carries no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import StorageError
from cluster.storage.store import Store, child_uri
from data_pipeline.inspection.difference import Difference, Entry, Side, difference
from data_pipeline.inspection.thumbnails import SIDE
from data_pipeline.splits.assign import read_split_csv
from ray_jobs.inspection.inspect import check_radius, inspected_data
from ray_jobs.inspection.record import IMAGES, INSPECTIONS, find_inspection, inspection_name
from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RunDirectory

_TABLES = (".csv", ".parquet", ".pq")
_MOST_BYTES = 2**34


@dataclass(frozen=True)
class DiffOutcome:
    """Two data sets that were compared."""

    first: str
    second: str
    """As the command named them."""
    images: tuple[int, int]
    difference: Difference
    notes: tuple[str, ...]
    """What could not be compared, and why."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"schema": 1, **asdict(self)}


class _Stored(NamedTuple):
    """What images.parquet says of one image."""

    sample_id: str
    content: str
    thumbnail: bytes


def run_diff(first: str, second: str, job: JobConfig, *, radius: int | None = None) -> DiffOutcome:
    """Compare two data sets, each a folder, a labels file (paths relative to its own folder) or a run.

    A folder's images are looked at, see `run_inspect`. Of a run its records are read; what its images look like is
    known where its data were inspected under `storage.root`. Raises DataError, RunError or StorageError.
    """
    check_radius(radius)
    sides, notes = list[Side](), list[str]()
    for name in (first, second):
        side, note = _side(name, job)
        sides.append(side)
        notes += [note] if note else []
    one, other = sides
    return DiffOutcome(
        first, second, (len(one.entries), len(other.entries)), difference(one, other, radius), tuple(notes)
    )


def _side(name: str, job: JobConfig) -> tuple[Side, str]:
    path = Path(name).expanduser()
    if path.suffix.lower() in _TABLES and path.is_file():
        return _of_data(job, root=str(path.absolute().parent), labels=str(path.absolute())), ""
    is_run = not path.is_dir() or (path / "config.toml").is_file()
    if is_run:
        return _of_run(RunDirectory.find(name, job.storage.root), job.storage.root)
    return _of_data(job, root=name), ""


def _of_data(job: JobConfig, *, root: str, labels: str = "") -> Side:
    """The splits are those that the data have themselves."""
    data = job.data.model_copy(update={"root": root, "labels": labels})
    inspected = inspected_data(job.model_copy(update={"data": data}))
    samples = inspected.dataset.samples
    numbers: list[int] = samples.labels.tolist()
    entries = {
        sample_id: Entry(samples.classes[label], split, content)
        for sample_id, label, split, content in zip(
            samples.sample_ids, numbers, inspected.given_splits, samples.content, strict=True
        )
    }
    return Side(entries, inspected.facts["thumbnail"])


def _of_run(run: RunDirectory, storage_root: str) -> tuple[Side, str]:
    rows = sorted(read_split_csv(run.read_split_csv()), key=lambda row: row.sample_id)
    record = find_inspection(storage_root, run.read_dataset().fingerprint)
    if record is None:
        entries = {row.sample_id: Entry(row.label, row.split, None) for row in rows}
        note = (
            f"{run.uri}: its images were never inspected under {storage_root}, so neither replaced files nor copies "
            "are found; inspect its data as they were when it was trained"
        )
        return Side(entries, None), note
    name = inspection_name(record.root, record.fingerprint)
    content = Store.open(storage_root).read(f"{INSPECTIONS}/{name}/{IMAGES}", _MOST_BYTES)
    try:
        table = cast("Any", pq.read_table(io.BytesIO(content), columns=list(_Stored._fields)))
        known = {each.sample_id: each for each in _stored(table)}
    except (pa.ArrowException, KeyError, OSError) as error:
        place = child_uri(storage_root, f"{INSPECTIONS}/{name}/{IMAGES}")
        raise StorageError(f"{place} is damaged; remove its folder, and inspect the data again") from error
    entries = {row.sample_id: Entry(row.label, row.split, known[row.sample_id].content) for row in rows}
    pictures = [np.frombuffer(known[row.sample_id].thumbnail, "<u2").reshape(SIDE, SIDE) for row in rows]
    return Side(entries, np.stack(pictures)), ""


def _stored(table: Any) -> list[_Stored]:
    columns: list[Any] = [table[name].to_pylist() for name in _Stored._fields]
    return [_Stored(*row) for row in zip(*columns, strict=True)]
