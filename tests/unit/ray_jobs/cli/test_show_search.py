import pytest

from ray_jobs.cli.show_search import show_search
from ray_jobs.report.search_record import Comparison
from ray_jobs.search.config import SearchConfig
from ray_jobs.search.records import TrialRecord
from ray_jobs.search.results import SlotPool
from ray_jobs.search.tune import SearchOutcome


@pytest.mark.parametrize("already_finished", [False, True])
def test_a_search_ends_with_the_test_of_its_best_trial(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, already_finished: bool
):
    monkeypatch.setenv("COLUMNS", "80")
    test = Comparison(
        metric="macro_f1",
        best=0.9,
        best_interval=(0.85, 0.95),
        default=0.8,
        default_interval=(0.75, 0.85),
        difference=0.1,
        difference_interval=(-0.01, 0.2),
        samples=120,
    )
    history = ({"epoch": 1.0, "val/macro_f1": 0.91},)
    record = TrialRecord(0, {"optimizer.learning_rate": 0.1}, True, "finished", (0.91,), history)
    pool = SlotPool(1, 10.0, 5.0)
    outcome = SearchOutcome(
        "here", SearchConfig(), (record,), record, "best.toml", pool, already_finished=already_finished, test=test
    )
    show_search(outcome)
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "test, 120 images macro_f1 95 % interval" in rows
    assert "best trial 0.9000 0.8500 .. 0.9500" in rows
    assert "default 0.8000 0.7500 .. 0.8500" in rows
    assert "difference, paired +0.1000 -0.0100 .. +0.2000" in rows
