import pytest
from pydantic import ValidationError

from ray_jobs.search.config import MONITORS, OBJECTIVES, SearchConfig, best_value, is_maximized

SEVERAL = ("val/top1", "latency_ms")


def test_objectives_are_the_monitors_and_measures_of_the_network():
    measures = ("latency_ms", "latency_onnx_ms", "latency_openvino_ms", "parameters")
    assert (*MONITORS, *measures) == OBJECTIVES
    assert {name for name in OBJECTIVES if not is_maximized(name)} == {"val/loss", *measures}
    assert [best_value(name, [2.0, 3.0, 1.0]) for name in ("val/top1", "val/loss")] == [3.0, 1.0]


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"objectives": ()}, ["search.objectives is empty", *MONITORS]),
        ({"objectives": ("val/loss", "val/loss")}, ["names one twice", "remove it"]),
        ({"objectives": ("latency_ms", "val/top1")}, ["begins with 'latency_ms'", *MONITORS]),
        ({"objectives": ("parameters",)}, ["begins with 'parameters'"]),
        ({"objectives": SEVERAL, "scheduler": "asha"}, ["search.scheduler=asha", 'scheduler = "none"']),
        ({"objectives": SEVERAL, "scheduler": "median"}, ["search.scheduler=median", 'scheduler = "none"']),
        ({"objectives": SEVERAL, "sampler": "cmaes"}, ["search.sampler=cmaes", "tpe, gp or random"]),
        ({"objectives": ("val/top5",)}, ["objectives.0", "val/top5", *MONITORS]),
        ({"reduction_factor": 1.0}, ["reduction_factor"]),
        ({"unknown": 1}, ["unknown"]),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, object], parts: list[str]):
    with pytest.raises(ValidationError) as caught:
        SearchConfig.model_validate(settings)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("objectives", "scheduler", "expected"),
    [
        (("val/top1",), None, "asha"),
        (("val/top1",), "none", "none"),
        (("val/loss",), "median", "median"),
        (SEVERAL, None, "none"),
        (SEVERAL, "none", "none"),
    ],
)
def test_the_scheduler_follows_from_the_objectives_unless_said(
    objectives: tuple[str, ...], scheduler: str | None, expected: str
):
    config = SearchConfig.model_validate({"objectives": objectives, "scheduler": scheduler})
    assert config.ends_early == expected
