"""What the runs of a cross-validation say of the images that each was not trained on."""

# pyarrow carries no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import io
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cluster.storage.store import Store
from data_pipeline.splits.assign import read_split_csv
from ray_jobs.errors import ConfigError
from ray_jobs.evaluation.evaluate import run_evaluate
from ray_jobs.job.toml_codec import Tree
from ray_jobs.run.argument import RUNS
from ray_jobs.run.directory import RunDirectory
from resnet_dist.errors import RunError
from resnet_dist.plain_json import json_object

_FOLDS = "folds.json"


def fold_predictions(name: str, storage_root: str, fingerprint: str, changes: Tree) -> dict[str, NDArray[np.float32]]:
    """By sample id the probabilities [C] of the run that did not train on it, the classes in the data's order.

    `name`: that of a finished run of `data.folds`. Each fold's val is judged by its own run, and test, which none was
    trained on, by the first. `changes`: where that runs. Raises ConfigError for a run that is none of folds or was
    trained on other data than those with the `fingerprint`, RunError where its files are damaged.
    """
    store = Store.open(storage_root).child(f"{RUNS}/{name}")
    content = store.read_or_none(_FOLDS)
    if content is None:
        raise ConfigError(
            f"--predictions {name} is no finished cross-validation: {store.uri} has no {_FOLDS}; "
            "name a run of data.folds that is done"
        )
    runs = json_object(content, f"{store.uri}/{_FOLDS}", "train it again").get("runs")
    count = len(cast("list[object]", runs)) if isinstance(runs, list) else 0
    if not count:
        raise RunError(f"{store.uri}/{_FOLDS} names no runs; train it again: finished folds are not trained anew")
    folds = [RunDirectory.find(f"{name}-fold{fold}", storage_root) for fold in range(count)]
    for fold in folds:
        if fold.read_dataset().fingerprint != fingerprint:
            raise ConfigError(
                f"--predictions {name} was trained on other data: {fold.uri} has the fingerprint "
                f"{fold.read_dataset().fingerprint[:12]}, the folder {fingerprint[:12]}; train it anew"
            )
    found: dict[str, NDArray[np.float32]] = {}
    for number, fold in enumerate(folds):
        splits = ["val"] + ["test"] * (number == 0 and _has_test(fold))
        for split in splits:
            run_evaluate(fold.uri, split, "best", changes)
            found.update(_read(fold, split))
    return found


def _has_test(run: RunDirectory) -> bool:
    return any(row.split == "test" for row in read_split_csv(run.read_split_csv()))


def _read(run: RunDirectory, split: str) -> dict[str, NDArray[np.float32]]:
    content = io.BytesIO(run.store.read(f"evaluation/{split}.predictions.parquet"))
    table = cast("Any", pq.read_table(content, columns=["sample_id", "probabilities"]))
    ids: list[str] = table["sample_id"].to_pylist()
    rows: list[list[float]] = table["probabilities"].to_pylist()
    return {sample_id: np.array(row, np.float32) for sample_id, row in zip(ids, rows, strict=True)}
