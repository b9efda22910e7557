"""`resnet-dist compress show`: what each phase cost in accuracy and gave in size and speed, on the same images."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ray_jobs.compression.calibrated import calibrated_answers
from ray_jobs.compression.lineage import Descendant, lineage
from ray_jobs.compression.speeds import FormatSpeed, MeasuredNetwork, measured_speeds
from ray_jobs.errors import ConfigError
from ray_jobs.evaluation.answers import Answers, answers_of, compared, judged_split
from ray_jobs.job.toml import only_fields
from ray_jobs.job.toml_codec import Tree
from ray_jobs.job.verb_fields import of_evaluation
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.lookup import find_run, job_of_run
from resnet_dist.evaluation.calibration import expected_calibration_error
from resnet_dist.evaluation.metrics import confusion_matrix, confusion_metrics, per_class
from resnet_dist.evaluation.paired_interval import macro_f1_loss
from resnet_dist.model.layers import layers
from resnet_dist.model.model_json import restored, restored_float
from resnet_dist.model.structure import Structure
from resnet_dist.quantisation.network import ranges_of
from resnet_dist.sealed_json import json_bytes

SCHEMA = 1
_FILE = "compression/ladder.json"
CALIBRATED = "calibrate"
"""The phase of a rung that is no run: the one before quantisation, with ranges and nothing learnt."""


@dataclass(frozen=True)
class Loss:
    """What a run lost of the first one's metric, on the same images; negative where it is better."""

    value: float
    low: float
    high: float
    """95 % interval."""


@dataclass(frozen=True)
class Rung:
    """One run of the ladder, judged on the same images as all."""

    run: str
    """Its name; of phase calibrate with "ranges alone"."""
    uri: str
    phase: str
    """train, distill, prune or quantize; calibrate: the run before quantize with ranges set and nothing learnt."""
    widths: str | None
    """As in `model.widths`; None: the architecture's own."""
    parameters: int
    macs: int
    """Multiplications of one image."""
    top1: float
    macro_f1: float
    top1_loss: Loss | None
    """None of the first run."""
    macro_f1_loss: Loss | None
    agreement: float
    """Share of images to which it gives the first run's answer."""
    worst_class: str
    worst_recall: float
    calibration_error: float
    """Expected calibration error, 15 bins."""
    training_s: float | None
    """Seconds of training without validation, by the recorded throughput; None where records are lost."""
    speeds: dict[str, FormatSpeed]
    """By format."""


@dataclass(frozen=True)
class Ladder:
    """A run and all that it came from."""

    split: str
    images: int
    threads: int
    rungs: tuple[Rung, ...]
    """The oldest first."""
    skipped: dict[str, str]
    """Formats that were not measured, and why."""

    def to_json(self) -> dict[str, Any]:
        """Plain values; docs/compression.md describes them."""
        return {"schema": SCHEMA, **asdict(self)}


def run_ladder(
    run: str,
    changes: Tree,
    split: str | None = None,
    threads: int = 1,
    seconds: float = 5.0,
    say: Callable[[str], None] = lambda _: None,
) -> Ladder:
    """Judge a run and all that it came from on a split (test where there is one, else val), and measure them.

    Predictions that are stored for the same checkpoint are used again. `seconds` is how long each network is timed in
    each format; 0 leaves that out. Writes compression/ladder.json to the run. Raises RunError where an ancestor is
    gone, ConfigError for a run that came from none.
    """
    found = lineage(find_run(run, changes))
    if len(found) == 1:
        raise ConfigError(f"{run} was not compressed: it has neither a teacher nor compression.json; name one that was")
    last = found[-1].run
    split = split or judged_split(last)
    say(f"{last.uri} came from {len(found) - 1} others; all are judged on {split}")
    answers = [answers_of(each.run, split, changes) for each in found]
    classes = last.read_dataset().classes
    networks = {each.run.uri: _network(each.run) for each in found}
    speeds, skipped = dict[str, dict[str, FormatSpeed]](), dict[str, str]()
    if seconds > 0:
        speeds, skipped = measured_speeds(networks, last.read_preprocess(), threads, seconds, say)
    rungs: list[Rung] = []
    for before, each, own in zip([None, *found], found, answers, strict=False):
        structure = networks[each.run.uri].model.structure
        if before is not None and each.phase == "quantize":
            job = job_of_run(each.run, only_fields(changes, of_evaluation))
            [ranges_alone] = calibrated_answers(before.run, before.run.checkpoint("best"), job, [split])
            calibrated = Descendant(before.run, CALIBRATED, None)
            rungs.append(_rung(calibrated, structure, ranges_alone, answers[0], classes, {}))
        rungs.append(_rung(each, structure, own, answers[0], classes, speeds.get(each.run.uri, {})))
    ladder = Ladder(split, len(answers[0].labels), threads, tuple(rungs), skipped)
    last.store.write(_FILE, json_bytes(ladder.to_json()))
    return ladder


def _rung(
    descendant: Descendant,
    structure: Structure,
    own: Answers,
    first: Answers,
    classes: Sequence[str],
    speeds: dict[str, FormatSpeed],
) -> Rung:
    run = descendant.run
    job = run.read_config()
    counted = list(layers(structure, len(classes), job.data.input_size))
    confusion = confusion_matrix(own.labels, own.predictions, len(classes))
    metrics, recall = confusion_metrics(confusion), per_class(confusion)[0]
    recall = np.where(confusion.sum(axis=1) > 0, recall, np.inf)
    worst = int(recall.argmin())
    top1_loss = f1_loss = None
    if own is not first:
        changes = compared(first, own)
        top1_loss = Loss(changes.loss, *changes.interval())
        value, interval = macro_f1_loss(
            first.labels,
            first.predictions,
            own.predictions,
            len(classes),
            job.seed,
            job.evaluation.bootstrap_samples,
        )
        f1_loss = Loss(value, *interval)
    return Rung(
        run=f"{run.name}, ranges alone" if descendant.phase == CALIBRATED else run.name,
        uri=run.uri,
        phase=descendant.phase,
        widths=None if structure.widths is None else structure.widths.text,
        parameters=sum(layer.parameters for layer in counted),
        macs=sum(layer.macs for layer in counted),
        top1=metrics["top1"],
        macro_f1=metrics["macro_f1"],
        top1_loss=top1_loss,
        macro_f1_loss=f1_loss,
        agreement=float((own.predictions == first.predictions).mean()),
        worst_class=classes[worst],
        worst_recall=float(recall[worst]),
        calibration_error=expected_calibration_error(own.probabilities, own.labels),
        training_s=None if descendant.phase == CALIBRATED else _training_s(run, job.training.global_batch_size),
        speeds=speeds,
    )


def _training_s(run: RunDirectory, batch: int) -> float | None:
    """Seconds of training by the recorded throughput."""
    found, before = 0.0, 0.0
    for record in run.metrics(lambda _: None):
        if speed := record.get("perf/images_per_second"):
            found += (record["step"] - before) * batch / speed
            before = record["step"]
    return found or None


def _network(run: RunDirectory) -> MeasuredNetwork:
    found = run.checkpoint("best")
    model = restored(found.model_json(), found.weights()).eval()
    ranges = tuple(ranges_of(model).values())
    return MeasuredNetwork(restored_float(found.model_json(), found.weights()).eval() if ranges else model, ranges)
