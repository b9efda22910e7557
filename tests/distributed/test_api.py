"""Training and judging by functions alone."""

from typing import Any

import pytest

from ray_jobs import api


@pytest.mark.usefixtures("shared_ray")
def test_a_run_is_trained_and_judged_and_nothing_is_printed(make_job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    job = make_job("api", overrides={"training": {"epochs": 1}})
    outcome = api.train(job)
    assert (outcome.epochs, outcome.already_finished) == (1, False)
    cluster = {"num_workers": 1, "cpus_per_worker": 1, "local_cpus": 4}
    evaluation = api.evaluate("api", split="val", changes={"storage": {"root": job.storage.root}, "cluster": cluster})
    assert evaluation.run == outcome.run
    assert evaluation.result.samples == 11
    assert evaluation.result.metrics["top1"] == pytest.approx(outcome.metrics["val/top1"])
    assert api.train(job).already_finished
    assert capsys.readouterr().out == ""
