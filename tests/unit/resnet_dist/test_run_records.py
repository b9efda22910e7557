"""Metrics in parts, and the status."""

import json
import math
from pathlib import Path

from cluster.storage import Store
from resnet_dist.run_records import MetricLog, Status, cut_back, read_metrics

ONE, TWO = (1, "a"), (2, "b")


def test_parts_are_believed_by_claim_and_cut_back_to_a_step(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    first = MetricLog(store, ONE)
    for step in range(1, 6):
        first.append({"step": step, "train/loss": 1.0 / step})
        if step % 2:
            first.flush()
    stranger = MetricLog(store, (7, "x"))
    stranger.append({"step": 1, "train/loss": 9.0})
    stranger.flush()
    assert [record["step"] for record in read_metrics(store, {ONE})] == [1, 2, 3, 4, 5]
    cut_back(store, {ONE}, 2)
    second = MetricLog(store, TWO)
    second.append({"step": 3, "train/loss": math.nan, "train/x": math.inf})
    second.flush()
    records = read_metrics(store, {ONE, TWO})
    assert [record["step"] for record in records] == [1, 2, 3]
    assert math.isnan(records[-1]["train/loss"])
    assert records[-1]["train/x"] == math.inf


def test_status_is_strict_json_and_round_trips() -> None:
    status = Status(state="running", submission="s", step=3, metrics={"val/loss": math.nan, "val/top1": 0.5})
    text = json.dumps(status.to_json(), allow_nan=False)
    again = Status.from_json(json.loads(text))
    assert again.step == 3
    assert again.metrics["val/top1"] == 0.5
    assert math.isnan(again.metrics["val/loss"])
    assert again.updated
