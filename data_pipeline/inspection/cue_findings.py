"""Which trivial properties of the images predict their class, as findings."""

import numpy as np

from data_pipeline.inspection.cues import Cue, categorical_cue, name_features, numeric_cue
from data_pipeline.inspection.findings import Finding, Inspected, Severity
from data_pipeline.inspection.thumbnails import GREY

_UNSEEN = frozenset({"bytes", "format", "mode", "name pattern", "name prefix", "name extension", "name number"})
"""What no network sees. They tell how images were taken and kept, and so where else to look."""
_FEWEST_IMAGES = 50


def cues_of(inspected: Inspected) -> list[Cue]:
    """Every property that was tried, by how well it predicts; none for a set of fewer than 50 images.

    Copies are one image to them, see `categorical_cue`.
    """
    dataset, facts = inspected.dataset, inspected.facts
    samples, count = dataset.samples, len(dataset)
    if count < _FEWEST_IMAGES:
        return []
    area = samples.sizes.astype(np.float64).prod(axis=1)
    levels = facts["thumbnail"].reshape(count, -1) / 256.0
    numbers = {
        "brightness": facts["sums"] @ GREY / area,
        "contrast": levels.std(axis=1),
        "sharpness": facts["sharpness"].astype(np.float64),
        "width": samples.sizes[:, 0].astype(np.float64),
        "height": samples.sizes[:, 1].astype(np.float64),
        "bytes": facts["bytes"].astype(np.float64),
    }
    texts = {"format": facts["format"].astype(str).tolist(), "mode": facts["mode"].astype(str).tolist()}
    for name, values in name_features(samples.sample_ids).items():
        if isinstance(values, list):
            texts[f"name {name}"] = values
        else:
            numbers[f"name {name}"] = values
    alone = inspected.copies.cluster_of < 0
    groups = np.where(alone, len(inspected.copies.clusters) + np.arange(count), inspected.copies.cluster_of)
    common = samples.labels, len(samples.classes), samples.keys, groups
    found = [numeric_cue(name, values, *common) for name, values in numbers.items() if len(np.unique(values)) > 1]
    found += [categorical_cue(name, values, *common) for name, values in texts.items() if len(set(values)) > 1]
    return sorted(found, key=lambda cue: -cue.interval[0])


def cue_findings(cues: list[Cue], images: int) -> list[Finding]:
    """Those that predict the class far better than chance."""
    return [_finding(cue, images) for cue in cues if cue.is_spurious]


def _finding(cue: Cue, images: int) -> Finding:
    low, high = cue.interval
    sentence = (
        f"images: {cue.name} alone predicts the class, balanced accuracy {cue.balanced_accuracy:.2f} "
        f"({low:.2f} .. {high:.2f}) where a guess has {cue.chance:.2f}"
    )
    if cue.name in _UNSEEN:
        remedy = "no network sees it; see whether the classes were taken on other days, or by other cameras"
        return Finding("cue-unseen", Severity.NOTE, images, sentence, remedy)
    remedy = "see whether that is what the classes are about; if not, take images of all classes alike, or augment it"
    return Finding("cue", Severity.WARNING, images, sentence, remedy)
