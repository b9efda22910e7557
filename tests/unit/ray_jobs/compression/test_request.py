"""What pruning is asked for is refused with value, rule and remedy before anything is imported."""

from typing import Any

import pytest

from ray_jobs.compression.request import PruneRequest, check_showing
from ray_jobs.errors import ConfigError
from resnet_dist.model.structure import Structure
from tests.complaints import complains


@pytest.mark.parametrize(
    ("values", "key", "value"),
    [
        ({"target": "macs=1.5"}, "--target", "macs=1.5"),
        ({"target": "macs=0"}, "--target", "macs=0"),
        ({"target": "latency=0.5x"}, "--target", "latency=0.5x"),
        ({"target": "watts=3"}, "--target", "watts=3"),
        ({"rounds": 0}, "--rounds", 0),
        ({"rounds": 11}, "--rounds", 11),
        ({"floor": 0.0}, "--floor", 0),
        ({"floor": 1.1}, "--floor", 1.1),
        ({"score_microbatches": 0}, "--score-microbatches", 0),
        ({"threads": 0}, "--threads", 0),
        ({"latency_table": "table.json"}, "--latency-table", "table.json"),
    ],
)
def test_a_wrong_value_is_refused(values: dict[str, Any], key: str, value: object):
    with pytest.raises(ConfigError) as caught:
        PruneRequest(**{"target": "macs=0.5", **values})
    assert complains(caught, key, value)


def test_grouped_convolutions_keep_their_widths():
    with pytest.raises(ConfigError) as caught:
        PruneRequest("macs=0.5").check_fits(Structure("resnext50_32x4d"))
    assert complains(caught, "--scope", "inner", "resnext50_32x4d")
    PruneRequest("macs=0.9", scope="blocks").check_fits(Structure("resnext50_32x4d"))


def test_little_is_cut_at_once_and_much_in_rounds():
    assert PruneRequest("macs=0.8").rounds_for(0.8) == 1
    assert PruneRequest("macs=0.5").rounds_for(0.5) == 3
    assert PruneRequest("macs=0.5", rounds=2).rounds_for(0.5) == 2


def test_where_a_table_lies_makes_no_other_pruning():
    with_table = PruneRequest("latency=0.5x@onnx", latency_table="table.json")
    assert with_table.to_json() == PruneRequest("latency=0.5x@onnx").to_json()
    assert with_table.to_json() != PruneRequest("latency=0.5x@onnx", threads=3).to_json()


def test_a_target_that_is_written_otherwise_is_the_same_pruning():
    assert PruneRequest("macs=0.50").to_json() == PruneRequest("macs=.5x").to_json()
    assert PruneRequest("macs=0.50").to_json() != PruneRequest("macs=0.51").to_json()


@pytest.mark.parametrize(
    ("values", "key", "value"),
    [
        ({"split": "../val"}, "--split", "../val"),
        ({"threads": 0}, "--threads", 0),
        ({"threads": 1025}, "--threads", 1025),
        ({"seconds": -1.0}, "--seconds", -1),
        ({"seconds": float("nan")}, "--seconds", "nan"),
        ({"seconds": float("inf")}, "--seconds", "inf"),
    ],
)
def test_what_cannot_be_shown_is_refused(values: dict[str, Any], key: str, value: object):
    with pytest.raises(ConfigError) as caught:
        check_showing(**{"split": None, "threads": 1, "seconds": 5.0, **values})
    assert complains(caught, key, value)


def test_words_ask_for_what_was_asked_for():
    assert PruneRequest("macs=0.5").words == ("--target", "macs=0.5", "--scope", "inner")
    asked = PruneRequest("latency=0.5x@onnx", "all", floor=0.1, threads=1, latency_table="a table.json")
    words = asked.words
    assert dict(zip(words[::2], words[1::2], strict=True)) == {
        "--target": "latency=0.5x@onnx",
        "--scope": "all",
        "--floor": "0.1",
        "--threads": "1",
        "--latency-table": "a table.json",
    }
