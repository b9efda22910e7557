"""Judging during training: the validation split through the same source and the model as it is being trained."""

from contextlib import nullcontext

import numpy as np
import torch

from resnet_dist.errors import RunError
from resnet_dist.evaluation.metrics import confusion_matrix, confusion_metrics
from resnet_dist.features.reuse import FeatureReuse
from resnet_dist.training.out_of_memory import is_out_of_memory
from resnet_dist.training.precision import autocast
from resnet_dist.training.rank_group import RankGroup
from resnet_dist.training.source import EvaluationBatch, EvaluationSource
from resnet_dist.training.state import TrainState


def validate(
    state: TrainState,
    source: EvaluationSource,
    group: RankGroup,
    dtype: torch.dtype | None,
    reuse: FeatureReuse | None = None,
) -> tuple[dict[str, float], tuple[int, ...]]:
    """val/top1, val/macro_f1, val/balanced_accuracy, val/loss of the weights to be judged, and the classes that were
    answered. Collective.

    Batches are fixed by their place in the split and the ranks' answers put in the split's order, so the numbers do
    not depend on the worker count. Raises RunError where a batch does not fit into memory.
    """
    try:
        with nullcontext() if state.ema is None else state.ema.applied():
            return _validate(state, source, group, dtype, reuse)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise RunError(
                "out of memory while the validation split was judged; lower evaluation.batch_size"
            ) from error
        raise


@torch.no_grad()
def _validate(
    state: TrainState, source: EvaluationSource, group: RankGroup, dtype: torch.dtype | None, reuse: FeatureReuse | None
) -> tuple[dict[str, float], tuple[int, ...]]:
    device = next(state.suffix.parameters()).device
    answers = [torch.empty((0, 4), dtype=torch.float64, device=device)]
    state.suffix.eval()
    for batch in source.batches():
        with autocast(device, dtype):
            logits = state.suffix(_features(state, batch, reuse), None)
        losses = torch.nn.functional.cross_entropy(logits.double(), batch.labels, reduction="none")
        rows = torch.from_numpy(batch.rows).to(device)
        columns = (rows.double(), batch.labels.double(), logits.argmax(1).double(), losses)
        answers.append(torch.stack(columns, dim=1))
    state.suffix.train()
    gathered = group.gather_rows(torch.cat(answers)).cpu().numpy()
    gathered = gathered[np.argsort(gathered[:, 0], kind="stable")]
    if len(gathered) != source.samples:
        raise RuntimeError(f"validation saw {len(gathered)} of {source.samples} samples; every one is due once")
    classes = state.model.fc.out_features
    labels, predictions = gathered[:, 1].astype(np.int64), gathered[:, 2].astype(np.int64)
    found = confusion_metrics(confusion_matrix(labels, predictions, classes))
    metrics = {
        "val/top1": found["top1"],
        "val/macro_f1": found["macro_f1"],
        "val/balanced_accuracy": found["balanced_accuracy"],
        "val/loss": float(gathered[:, 3].mean()),
    }
    return metrics, tuple(np.unique(predictions).tolist())


def _features(state: TrainState, batch: EvaluationBatch, reuse: FeatureReuse | None) -> torch.Tensor:
    if batch.features is not None:
        return batch.features
    if reuse is None:
        return state.features(batch.images)
    return reuse.of_batch(batch.rows, lambda: state.features(batch.images))
