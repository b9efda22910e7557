"""model.widths in a job: what network it names, and what is refused before anything starts."""

from typing import Any

import pytest
from pydantic import ValidationError

from resnet_dist.model.config import ModelConfig
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths


def test_the_network_that_a_job_names() -> None:
    assert ModelConfig().structure == Structure("resnet50")
    assert ModelConfig(widths="0.5").structure == Structure("resnet50", widths=Widths.of("resnet50", 0.5))
    text = "48 48:-,16 128:128,- 256:256,256 512:512,512"
    structure = ModelConfig(arch="resnet18", squeeze_excite=True, widths=text).structure
    assert structure == Structure("resnet18", True, Widths.parse(text, "resnet18"))
    assert structure.layer_widths.text == text
    assert Structure("resnet34").layer_widths == Widths.of("resnet34")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"widths": "0"}, r"model\.widths '0': it is a factor .* change model\.widths or model\.arch=resnet50"),
        ({"widths": "1.01"}, r"model\.widths '1\.01': a factor of widths is in \(0, 1\], not 1\.01"),
        ({"widths": ""}, "it is a factor such as 0.75, or five words"),
        ({"widths": "64 64:64,64 128:128,128 256:256,256 512:512,512"}, "layer1 has 2 blocks; resnet50 has 3 there"),
        (
            {"arch": "resnext50_32x4d", "widths": "0.5"},
            "its blocks can be left out; change model.widths or model.arch=",
        ),
        ({"arch": "resnet18", "widths": Widths.of("resnet34").text}, "layer1 has 3 blocks; resnet18 has 2 there"),
        ({"widths": 0.5}, "valid string"),
    ],
)
def test_widths_that_the_architecture_cannot_have(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ModelConfig.model_validate(values)
