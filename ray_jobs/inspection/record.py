"""The record of an inspection under `storage.root`: inspections/<folder>-<fingerprint>/, and how it is found again."""

# pyarrow carries no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import io
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cluster.errors import StorageError
from cluster.storage.folder_name import folder_name
from cluster.storage.store import Store
from data_pipeline.inspection.cues import Cue
from data_pipeline.inspection.findings import Finding, Inspected, Severity
from data_pipeline.inspection.hashing import shows_something
from resnet_dist.sealed_json import json_bytes

INSPECTIONS = "inspections"
FILE, IMAGES = "inspection.json", "images.parquet"
_FINGERPRINT_LETTERS = 12
_MOST_BYTES = 2**30


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ClusterRecord(_Model):
    """Images that are copies."""

    members: Annotated[tuple[str, ...], Field(min_length=2)]
    """Sample ids, sorted."""
    medoid: str
    """The member that is nearest to all."""
    exact: bool
    """Whether all have the same bytes."""


class ReferenceRecord(_Model):
    """What was taken away from thumbnails before they were hashed."""

    digest: str
    images: int
    """How many it was made of."""
    modes: int
    """Principal components besides the mean."""


class RadiusRecord(_Model):
    """How near hashes had to be, in bits of 256; see `data_pipeline.inspection.radius.Radius`."""

    bits: int
    given: bool
    lowered_from: int | None
    false_match_rate: float
    median: float
    spread: float
    pairs: int


class FindingRecord(_Model):
    """See `data_pipeline.inspection.findings.Finding`."""

    code: str
    severity: Literal["error", "warning", "note"]
    count: int
    sentence: str
    remedy: str
    examples: tuple[str, ...]

    @classmethod
    def of(cls, finding: Finding) -> "FindingRecord":
        """The same."""
        return cls(
            code=finding.code,
            severity=_SEVERITIES[finding.severity],
            count=finding.count,
            sentence=finding.sentence,
            remedy=finding.remedy,
            examples=finding.examples,
        )


class CueRecord(_Model):
    """See `data_pipeline.inspection.cues.Cue`."""

    name: str
    balanced_accuracy: float
    interval: tuple[float, float]
    chance: float
    is_spurious: bool

    @classmethod
    def of(cls, cue: Cue) -> "CueRecord":
        """The same."""
        return cls(
            name=cue.name,
            balanced_accuracy=cue.balanced_accuracy,
            interval=cue.interval,
            chance=cue.chance,
            is_spurious=cue.is_spurious,
        )


class InspectionRecord(_Model):
    """inspection.json."""

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    root: str
    """As the command named it."""
    labels: str
    """The labels file, empty for class folders."""
    fingerprint: str
    """Of the data set: of classes, sample ids, labels and contents."""
    decoder: str
    """Who decoded the images: `dali` or `reference`."""
    classes: tuple[str, ...]
    images: int
    splits: dict[str, int]
    """Images of each split: those that the data have, or that a job with this seed would draw."""
    seed: int
    reference: ReferenceRecord
    radius: RadiusRecord
    findings: tuple[FindingRecord, ...]
    """Worst first."""
    cues: tuple[CueRecord, ...]
    """Every property that was tried, by how well it predicts the class alone."""
    clusters: tuple[ClusterRecord, ...]
    """Largest first."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True, serialize_by_alias=True
    )


_SEVERITIES: dict[Severity, Literal["error", "warning", "note"]] = {
    Severity.ERROR: "error",
    Severity.WARNING: "warning",
    Severity.NOTE: "note",
}


def inspection_name(root: str, fingerprint: str) -> str:
    """Of the folder of a record."""
    return f"{folder_name(root)}-{fingerprint[:_FINGERPRINT_LETTERS]}"


def find_inspection(storage_root: str, fingerprint: str) -> InspectionRecord | None:
    """The newest record of the data with this fingerprint, whatever their folder was called; None where there is none.

    Raises StorageError where there is only a damaged one.
    """
    store = Store.open(storage_root)
    ending = f"-{fingerprint[:_FINGERPRINT_LETTERS]}"
    found: list[tuple[int, InspectionRecord]] = []
    damaged: StorageError | None = None
    for name in sorted(each for each in store.list(INSPECTIONS) if each.endswith(ending)):
        path = f"{INSPECTIONS}/{name}/{FILE}"
        content, stored = store.read_or_none(path, _MOST_BYTES), store.file(path)
        if content is None or stored is None:
            continue
        try:
            record = InspectionRecord.model_validate_json(content)
        except ValidationError as error:
            damaged = StorageError(
                f"{store.place(path)} is damaged or of another version ({error.errors()[0]['msg']}); remove its "
                "folder, and inspect the data again"
            )
            continue
        if record.fingerprint == fingerprint:
            found.append((stored.mtime_ns, record))
    if not found and damaged is not None:
        raise damaged
    return max(found, key=lambda each: each[0])[1] if found else None


def write_inspection(storage_root: str, record: InspectionRecord, files: Mapping[str, bytes]) -> None:
    """Store a record and its other files, which come first: whoever sees inspection.json sees all."""
    store = Store.open(storage_root).child(f"{INSPECTIONS}/{inspection_name(record.root, record.fingerprint)}")
    for name, content in files.items():
        store.write(name, content)
    store.write(FILE, json_bytes(record.model_dump(mode="json")))


def images_parquet(inspected: Inspected) -> bytes:
    """images.parquet: a row for each image, in the order of sample ids.

    Thumbnails are kept rather than hashes, which say something only beside those of the same reference.
    """
    dataset, facts, copies = inspected.dataset, inspected.facts, inspected.copies
    samples = dataset.samples
    area = samples.sizes.astype(np.float64).prod(axis=1)
    means = facts["sums"] / area[:, None]
    medoids = {cluster.medoid for cluster in copies.clusters}
    table = pa.table(
        {
            "sample_id": list(samples.sample_ids),
            "label": [samples.classes[label] for label in samples.labels.tolist()],
            "split": [split or "" for split in dataset.splits],
            "group": list(dataset.groups),
            "content": list(samples.content),
            "bytes": facts["bytes"],
            "format": facts["format"].astype(str).tolist(),
            "mode": facts["mode"].astype(str).tolist(),
            "bits": facts["bits"],
            "orientation": facts["orientation"],
            "width": samples.sizes[:, 0],
            "height": samples.sizes[:, 1],
            **{f"sum_{name}": np.ascontiguousarray(facts["sums"][:, at]) for at, name in enumerate(_CHANNELS)},
            **{f"mean_{name}": means[:, at] for at, name in enumerate(_CHANNELS)},
            "sharpness": facts["sharpness"],
            "one_colour": ~shows_something(facts["thumbnail"]),
            "cluster": copies.cluster_of,
            "is_medoid": [row in medoids for row in range(len(samples))],
            "thumbnail": pa.array(_rows(facts["thumbnail"]), pa.binary()),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


_CHANNELS = ("red", "green", "blue")


def _rows(thumbnails: NDArray[np.uint16]) -> list[bytes]:
    """Little-endian uint16, row after row."""
    return [thumbnail.astype("<u2").tobytes() for thumbnail in thumbnails]


def clusters_of(sample_ids: Sequence[str], record: InspectionRecord) -> list[NDArray[np.int64]]:
    """Rows that are copies of each other, by the record: those that are there."""
    row_of = {sample_id: row for row, sample_id in enumerate(sample_ids)}
    found = [[row_of[each] for each in cluster.members if each in row_of] for cluster in record.clusters]
    return [np.array(sorted(rows), np.int64) for rows in found if len(rows) > 1]
