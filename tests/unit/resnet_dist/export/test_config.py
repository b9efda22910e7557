from typing import Any

import pytest
from pydantic import ValidationError

from resnet_dist.export.config import ExportConfig


def test_recalls_and_costs_are_read_by_class():
    config = ExportConfig(recall=("a=b=0.99",), costs=("crack=20:1.5",))
    assert config.recalls == {"a=b": 0.99}
    assert config.cost_pairs == {"crack": (20.0, 1.5)}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"formats": ("onnx", "caffe")}, "Input should be 'torchscript'"),
        ({"formats": ("onnx", "onnx")}, "names one twice"),
        ({"opset": 17}, "greater than or equal to 18"),
        ({"recall": ("crack",)}, r"write CLASS=RECALL"),
        ({"recall": ("crack=0",)}, r"write CLASS=RECALL"),
        ({"recall": ("crack=1.5",)}, r"write CLASS=RECALL"),
        ({"recall": ("crack=nan",)}, r"write CLASS=RECALL"),
        ({"recall": ("=0.5",)}, r"write CLASS=RECALL"),
        ({"costs": ("crack=5",)}, r"write CLASS=MISS:ALARM"),
        ({"costs": ("crack=0:1",)}, r"write CLASS=MISS:ALARM"),
        ({"costs": ("crack=inf:1",)}, r"write CLASS=MISS:ALARM"),
        ({"costs": ("crack=1:2:3",)}, r"write CLASS=MISS:ALARM"),
        ({"recall": ("crack=0.9",), "costs": ("crack=2:1",)}, "name 'crack' twice"),
        ({"reject_below": 1.0}, "less than 1"),
        ({"calibration_images": 3}, "greater than or equal to 16"),
    ],
)
def test_what_means_nothing_is_refused(wrong: dict[str, Any], words: str):
    with pytest.raises(ValidationError, match=words):
        ExportConfig.model_validate(wrong)
