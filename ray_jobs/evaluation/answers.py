"""What runs answer to the same images, and how two of them differ."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cluster.storage.store import child_uri
from ray_jobs.errors import ConfigError
from ray_jobs.evaluation.evaluate import run_evaluate
from ray_jobs.job.toml import only_fields
from ray_jobs.job.toml_codec import Tree
from ray_jobs.job.verb_fields import of_evaluation
from ray_jobs.run.directory import RunDirectory
from resnet_dist.errors import RunError
from resnet_dist.evaluation.paired_interval import Changes


@dataclass(frozen=True)
class Answers:
    """A run's answers to a split, by sample id."""

    sample_ids: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    """[N, classes]."""

    @classmethod
    def of(cls, sample_ids: Sequence[str], labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Self:
        """From rows in any order."""
        order: list[int] = np.argsort(np.array(sample_ids), kind="stable").tolist()
        return cls(tuple(sample_ids[row] for row in order), labels[order], probabilities[order])

    @property
    def predictions(self) -> NDArray[np.int64]:
        """[N]."""
        return self.probabilities.argmax(axis=1).astype(np.int64)


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
    return Answers.of(columns["sample_id"], labels, probabilities)


def compared(first: Answers, second: Answers) -> Changes:
    """What `second` changes of the answers of `first`. Raises ConfigError where they are of other images."""
    if first.sample_ids != second.sample_ids or not np.array_equal(first.labels, second.labels):
        raise ConfigError(
            f"the runs were judged on different images ({len(first.sample_ids)} and {len(second.sample_ids)}); train "
            "both on the same data and split"
        )
    return Changes.between(first.predictions == first.labels, second.predictions == second.labels)


def splits_of(run: RunDirectory) -> dict[str, int]:
    """How many images each split of a run has."""
    return dict(json.loads(run.records.read("dataset.json"))["splits"])


def judged_split(run: RunDirectory) -> str:
    """The split by which a run is judged: test where there is one, else val."""
    return "test" if splits_of(run).get("test") else "val"


def _judged(stored: bytes) -> str:
    """Of which checkpoint a stored evaluation is; empty where it cannot be told."""
    try:
        return str(json.loads(stored)["checkpoint"])
    except (ValueError, KeyError, TypeError):
        return ""
