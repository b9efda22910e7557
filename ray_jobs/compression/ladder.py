"""`resnet-dist compress show`: what each phase cost in accuracy and gave in size and speed, on the same images."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cluster.storage.store import child_uri
from ray_jobs.compression.lineage import Descendant, lineage
from ray_jobs.compression.speeds import FormatSpeed, measured_speeds
from ray_jobs.errors import ConfigError
from ray_jobs.evaluation.evaluate import run_evaluate
from ray_jobs.job.toml import only_fields
from ray_jobs.job.toml_codec import Tree
from ray_jobs.job.verb_fields import of_evaluation
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.lookup import find_run
from resnet_dist.errors import RunError
from resnet_dist.evaluation.calibration import expected_calibration_error
from resnet_dist.evaluation.metrics import confusion_matrix, confusion_metrics, per_class
from resnet_dist.evaluation.paired_interval import Changes, macro_f1_loss
from resnet_dist.model.layers import layers
from resnet_dist.model.model_json import restored
from resnet_dist.model.resnet import ResNetClassifier
from resnet_dist.model.structure import Structure
from resnet_dist.sealed_json import json_bytes

SCHEMA = 1
_FILE = "compression/ladder.json"


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
    """Its name."""
    uri: str
    phase: str
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


@dataclass(frozen=True)
class Answers:
    """A run's answers to a split, by sample id."""

    sample_ids: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    """[N, classes]."""

    @property
    def predictions(self) -> NDArray[np.int64]:
        """[N]."""
        return self.probabilities.argmax(axis=1).astype(np.int64)


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
    split = split or ("test" if "test" in _splits(last) else "val")
    say(f"{last.uri} came from {len(found) - 1} others; all are judged on {split}")
    answers = [answers_of(each.run, split, changes) for each in found]
    classes = last.read_dataset().classes
    networks = {each.run.uri: _network(each.run) for each in found}
    speeds, skipped = dict[str, dict[str, FormatSpeed]](), dict[str, str]()
    if seconds > 0:
        speeds, skipped = measured_speeds(networks, last.read_preprocess(), threads, seconds, say)
    rungs = [
        _rung(
            each,
            networks[each.run.uri].structure,
            own,
            answers[0],
            classes,
            {name: of[each.run.uri] for name, of in speeds.items()},
        )
        for each, own in zip(found, answers, strict=True)
    ]
    ladder = Ladder(split, len(answers[0].labels), threads, tuple(rungs), skipped)
    last.store.write(_FILE, json_bytes(ladder.to_json()))
    return ladder


def answers_of(run: RunDirectory, split: str, changes: Tree) -> Answers:
    """A run's answers to its own images of a split by its best checkpoint, judged now unless they are stored.

    `changes` are those of another run's job: they only say where this one is judged, and where its images are now.
    Raises ConfigError where data.root or data.labels name other images.
    """
    best = run.checkpoint("best")
    stored = run.store.read_or_none(f"evaluation/{split}.json")
    predictions = f"evaluation/{split}.predictions.parquet"
    if stored is None or _judged(stored) != best.name:
        where = only_fields(changes, of_evaluation)
        judged = run_evaluate(run.uri, split, str(best.step), where)
        if judged.predictions != child_uri(run.uri, predictions):
            raise ConfigError(
                f"data.root and data.labels name other images than those of {run.uri}, so the runs cannot be compared; "
                "train both on the same images"
            )
    try:
        file = io.BytesIO(run.store.read(predictions))
        table: Any = pq.read_table(file)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    except (pa.ArrowException, OSError) as error:  # pyright: ignore[reportUnknownVariableType]
        raise RunError(
            f"{run.uri}/{predictions} cannot be read ({error}); judge the run again: resnet-dist evaluate {run.name} "
            f"--split {split}"
        ) from error
    columns = cast("dict[str, list[Any]]", table.to_pydict())
    names = run.read_dataset().classes
    labels = np.array([names.index(name) for name in columns["label"]], dtype=np.int64)
    probabilities = np.array(columns["probabilities"], dtype=np.float64).reshape(len(labels), len(names))
    order = np.argsort(np.array(columns["sample_id"]), kind="stable")
    return Answers(tuple(columns["sample_id"][row] for row in order), labels[order], probabilities[order])


def compared(first: Answers, second: Answers) -> Changes:
    """What `second` changes of the answers of `first`. Raises ConfigError where they are of other images."""
    if first.sample_ids != second.sample_ids or not np.array_equal(first.labels, second.labels):
        raise ConfigError(
            f"the runs were judged on different images ({len(first.sample_ids)} and {len(second.sample_ids)}); train "
            "both on the same data and split"
        )
    return Changes.between(first.predictions == first.labels, second.predictions == second.labels)


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
        run=run.name,
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
        training_s=_training_s(run, job.training.global_batch_size),
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


def _network(run: RunDirectory) -> ResNetClassifier:
    found = run.checkpoint("best")
    return restored(found.model_json(), found.weights()).eval()


def _splits(run: RunDirectory) -> dict[str, int]:
    return dict(json.loads(run.records.read("dataset.json"))["splits"])


def _judged(stored: bytes) -> str:
    """Of which checkpoint a stored evaluation is; empty where it cannot be told."""
    try:
        return str(json.loads(stored)["checkpoint"])
    except (ValueError, KeyError, TypeError):
        return ""
