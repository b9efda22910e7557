"""`resnet-dist data inspect`: one look at every image, and what a person should know before a training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cluster.storage.store import child_uri
from data_pipeline.errors import DataError
from data_pipeline.inspection.copies import Copies, Photographs, find_copies
from data_pipeline.inspection.cue_findings import cue_findings, cues_of
from data_pipeline.inspection.cues import Cue
from data_pipeline.inspection.findings import (
    Finding,
    Inspected,
    Severity,
    class_findings,
    copy_findings,
    file_findings,
)
from data_pipeline.inspection.label_findings import label_finding, ranked_labels
from data_pipeline.inspection.radius import MOST
from data_pipeline.listing.index import Dataset
from data_pipeline.splits.assign import assign_splits
from ray_jobs.data.node_images import local_data
from ray_jobs.errors import ConfigError
from ray_jobs.inspection.commands import predictions_command, split_command
from ray_jobs.inspection.look import looked_at
from ray_jobs.inspection.record import (
    IMAGES,
    INSPECTIONS,
    ClusterRecord,
    CueRecord,
    FindingRecord,
    InspectionRecord,
    RadiusRecord,
    ReferenceRecord,
    images_parquet,
    inspection_name,
    write_inspection,
)
from ray_jobs.inspection.relabel import RELABEL, relabel_csv
from ray_jobs.job.config import JobConfig
from ray_jobs.terminal.scan_bar import ScanView

Predictions = Callable[[str], Mapping[str, NDArray[np.floating]]]
"""Given the fingerprint of the data: by sample id the probabilities [C] that a model which was not trained on the image
gives the classes, in the data's order."""


@dataclass(frozen=True)
class InspectOptions:
    """What a person may choose."""

    radius: int | None = None
    """Bits of 256 in which the hashes of copies may differ; None: found from images that are known to differ."""
    reread: bool = False
    """Believe nothing that earlier inspections remembered."""
    predictions: Predictions | None = None
    """To rank labels by."""


@dataclass(frozen=True)
class InspectOutcome:
    """A data set that was inspected."""

    record: InspectionRecord
    place: str
    """Folder of the record in storage."""
    decoded: int
    """Images that were decoded; the others were remembered."""
    inspected: Inspected
    """All that is known, row by row."""
    unranked: str | None
    """Where there were no predictions: the command that makes some, and ranks labels by them."""


def run_inspect(job: JobConfig, options: InspectOptions) -> InspectOutcome:
    """Look at every image of the job's data, find what is wrong with them, and store the record.

    The splits are those that the data have, else those that a training with this job would draw. Images that cannot
    be read are a finding rather than an error. Raises DataError where the folder is no data set at all, StorageError
    where it cannot be fetched or the record not be stored.
    """
    check_radius(options.radius)
    lenient = job.model_copy(update={"data": job.data.model_copy(update={"on_unreadable": "skip"})})
    inspected, decoded, unsplit = _inspected(lenient, options)
    name = inspection_name(job.data.root, inspected.dataset.fingerprint)
    place = child_uri(job.storage.root, f"{INSPECTIONS}/{name}")
    files = {IMAGES: images_parquet(inspected)}
    labels: list[Finding] = []
    if options.predictions is not None:
        ranked = ranked_labels(inspected, options.predictions(inspected.dataset.fingerprint))
        files[RELABEL] = relabel_csv(inspected, ranked).encode("utf-8", errors="surrogateescape")
        remedy = f"look through them from the top, correct column label, train with --data.labels {place}/{RELABEL}"
        labels = [label_finding(inspected, ranked, remedy)]
    cues = cues_of(inspected)
    findings = [
        *unsplit,
        *file_findings(inspected),
        *class_findings(inspected.dataset),
        *copy_findings(inspected, split_command(job, options.radius)),
        *cue_findings(cues, len(inspected.dataset)),
        *labels,
    ]
    findings.sort(key=lambda finding: finding.severity)  # those of one severity stay in their order
    record = _record(job, inspected, findings, cues)
    write_inspection(job.storage.root, record, files)
    unranked = predictions_command(job) if options.predictions is None else None
    return InspectOutcome(record, place, decoded, inspected, unranked)


def inspected_data(job: JobConfig, radius: int | None = None) -> Inspected:
    """What is known of the job's images; nothing is stored but what is remembered of them.

    Raises ConfigError for a wrong radius, DataError where images cannot be read (`data.on_unreadable`) or are no data
    set.
    """
    check_radius(radius)
    return _inspected(job, InspectOptions(radius))[0]


def check_radius(radius: int | None) -> None:
    """Raise ConfigError for a radius that no hash can have, or that would call all images copies."""
    if radius is not None and not 0 <= radius <= MOST:
        raise ConfigError(f"--radius {radius} is no number of bits from 0 to {MOST}; leave it out to find one")


def _inspected(job: JobConfig, options: InspectOptions) -> tuple[Inspected, int, list[Finding]]:
    """What is known, how many images were decoded for it, and whether a training could not split them."""
    with local_data(job.data) as here, ScanView(doing="inspecting images") as view:
        dataset, cache = looked_at(job, here, view.show, reread=options.reread)
    samples = dataset.samples
    facts = cache.table(samples.sample_ids)
    photographs = Photographs(facts["thumbnail"], samples.content, samples.labels, samples.keys)
    copies = find_copies(photographs, options.radius)
    unsplit: list[Finding] = []
    split = dataset
    try:
        split = assign_splits(dataset, job.data, job.seed)
    except DataError as error:
        sentence = f"images cannot be split: {error}"
        unsplit = [Finding("no-splits", Severity.ERROR, len(dataset), sentence, "a training will refuse them")]
    return Inspected(split, dataset.splits, facts, copies), cache.seen, unsplit


def _record(job: JobConfig, inspected: Inspected, findings: list[Finding], cues: list[Cue]) -> InspectionRecord:
    dataset, copies = inspected.dataset, inspected.copies
    splits = [split or "train" for split in dataset.splits]
    return InspectionRecord(
        root=job.data.root,
        labels=job.data.labels,
        fingerprint=dataset.fingerprint,
        decoder=job.data.source if job.data.source == "dali" else "reference",
        classes=dataset.samples.classes,
        images=len(dataset),
        splits={name: splits.count(name) for name in ("train", "val", "test") if name in splits},
        seed=job.seed,
        reference=ReferenceRecord(
            digest=copies.reference.digest, images=copies.reference.images, modes=len(copies.reference.modes)
        ),
        radius=RadiusRecord(
            bits=copies.radius.bits,
            given=copies.radius.given,
            lowered_from=copies.lowered_from,
            false_match_rate=copies.radius.false_match_rate,
            median=copies.radius.median,
            spread=copies.radius.spread,
            pairs=copies.radius.pairs,
        ),
        findings=tuple(map(FindingRecord.of, findings)),
        cues=tuple(map(CueRecord.of, cues)),
        clusters=_cluster_records(dataset, copies),
    )


def _cluster_records(dataset: Dataset, copies: Copies) -> tuple[ClusterRecord, ...]:
    """The clusters by sample ids."""
    ids = dataset.samples.sample_ids
    found: list[ClusterRecord] = []
    for cluster in copies.clusters:
        rows: list[int] = cluster.members.tolist()
        members = tuple(ids[row] for row in rows)
        found.append(ClusterRecord(members=members, medoid=ids[cluster.medoid], exact=cluster.exact))
    return tuple(found)
