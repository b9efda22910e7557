"""What a run has learnt, so that two runs are compared to the bit."""

import torch

from ray_jobs.run.directory import RunDirectory


def learnt_by(run: RunDirectory) -> dict[str, torch.Tensor]:
    """Of its last checkpoint: judged weights with BatchNorm, raw weights and the optimizer's state, by name.

    Raises RunError where the run has no whole checkpoint.
    """
    checkpoint = run.checkpoint("last")
    state = checkpoint.training_state()
    found = checkpoint.weights() | {f"raw {name}": value for name, value in state["raw_weights"].items()}
    for parameter, moments in state["optimizer"]["state"].items():
        found |= {f"optimizer {parameter} {name}": value for name, value in moments.items()}
    return found
