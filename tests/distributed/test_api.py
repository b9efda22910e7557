"""Judging by functions alone; the undisturbed run was trained by one, which prints nothing either."""

import pytest
from pyarrow import parquet

from ray_jobs import api
from tests.distributed.conftest import Trained


@pytest.mark.usefixtures("shared_ray")
def test_a_run_is_judged_and_trained_again_and_nothing_is_printed(
    undisturbed: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    job, outcome = undisturbed.job, undisturbed.outcome
    cluster = {"num_workers": 1, "cpus_per_worker": 1, "local_cpus": 4}
    changes = {"storage": {"root": job.storage.root}, "cluster": cluster}
    evaluation = api.evaluate("undisturbed", split="val", changes=changes)
    assert not outcome.already_finished
    assert evaluation.run == outcome.run
    assert evaluation.result.samples == 11
    assert evaluation.result.metrics["top1"] == pytest.approx(outcome.metrics["val/top1"])
    assert parquet.read_table(evaluation.predictions).num_rows == 11
    assert {each.remark for each in evaluation.result.classes} == {"too few images to judge"}
    assert api.train(job).already_finished
    assert capsys.readouterr().out == ""
