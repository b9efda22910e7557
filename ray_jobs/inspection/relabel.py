"""relabel.csv: every label beside what a model says of it, most suspicious first; a labels file as it is."""

import csv
from io import StringIO

from data_pipeline.inspection.findings import Inspected
from data_pipeline.inspection.label_findings import Ranked
from data_pipeline.listing.csv_cells import safe_cell
from data_pipeline.listing.samples import relative_path_of

RELABEL = "relabel.csv"
COLUMNS = ("path", "label", "suggested", "score", "likely")


def relabel_csv(inspected: Inspected, ranked: Ranked) -> str:
    """A row for each image: those with predictions by how likely their labels are wrong, then the others by sample id.

    `label` is the one the image has: nothing is changed until a person changes it. `split` and `group` follow where
    the data have them.
    """
    dataset = inspected.dataset
    samples = dataset.samples
    labels: list[int] = samples.labels.tolist()
    known: set[int] = set(ranked.rows.tolist())
    suggested: list[int] = ranked.suggested.tolist()
    kept: dict[str, list[str]] = {}
    if any(inspected.given_splits):
        kept["split"] = [split or "" for split in inspected.given_splits]
    if any(dataset.groups):
        kept["group"] = [group or "" for group in dataset.groups]
    text = StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*COLUMNS, *kept])

    def write(row: int, *said: str) -> None:
        path = relative_path_of(samples.sample_ids[row]).decode("utf-8", errors="surrogateescape")
        rest = [column[row] for column in kept.values()]
        cells: list[str] = [path, samples.classes[labels[row]], *said, *rest]
        writer.writerow(list(map(safe_cell, cells)))

    for row, other, score, likely in zip(
        ranked.rows.tolist(), suggested, ranked.score.tolist(), ranked.likely.tolist(), strict=True
    ):
        write(row, samples.classes[other], f"{score:.4f}", "yes" if likely else "no")
    for row in sorted(set(range(len(dataset))) - known):
        write(row, "", "", "")
    return text.getvalue()
