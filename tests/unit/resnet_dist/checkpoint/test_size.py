from collections.abc import Callable
from typing import Any

import pytest
import torch

from resnet_dist.checkpoint.contents import Snapshot
from resnet_dist.checkpoint.progress import Microbatches, Progress
from resnet_dist.checkpoint.size import checkpoint_bytes
from resnet_dist.model.model_json import describe


@pytest.mark.parametrize(
    "options",
    [{}, {"kind": "adamw"}, {"momentum": 0.0}, {"freeze_depth": 3}, {"preset": "layered"}, {"squeeze_excite": True}],
    ids=str,
)
def test_the_size_is_that_of_a_checkpoint_to_two_percent(make_setup: Callable[..., Any], options: dict[str, Any]):
    setup = make_setup(**options)
    state = setup.state_at(0)
    state.suffix(state.features(torch.zeros(2, 3, 32, 32))).sum().backward()
    state.optimizer.step()
    progress = Progress(step=1, epoch=1, step_in_epoch=0, microbatches=Microbatches(4, 0))
    files = Snapshot(describe(setup.model), state.judged_weights(), state.training_state(), progress).files()
    found = checkpoint_bytes(setup.config, setup.freezing, setup.optimizer, 1, len(setup.class_counts))
    assert found == pytest.approx(sum(map(len, files.values())), rel=0.02)


def test_what_is_trained_later_counts_once_training_comes_so_far(make_setup: Callable[..., Any]):
    setup = make_setup(preset="linear_probe_then_finetune", probe_epochs=2)
    few, many = (
        checkpoint_bytes(setup.config, setup.freezing, setup.optimizer, epochs, classes=3) for epochs in (2, 3)
    )
    assert many > 2.9 * few
