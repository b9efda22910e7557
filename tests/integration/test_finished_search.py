"""The command of a search that is finished, given again."""

import json
from pathlib import Path

import pytest

from data_pipeline.splits.assign import write_split_csv
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.records import RECORDS, SEAL
from ray_jobs.search.prepare import prepare_search
from ray_jobs.search.records import SearchDirectory, TrialRecord
from ray_jobs.search.space import job_with
from ray_jobs.search.toml import read_search_text
from ray_jobs.search.tune import run_tune

SEARCH = 'trials = 2\n[space]\n"optimizer.learning_rate" = { log_uniform = [0.001, 0.1] }\n'


@pytest.fixture
def job(folder: Path) -> JobConfig:
    return check(
        {
            "name": "finished",
            "data": {"root": str(folder / "data"), "image_size": 32, "cache_dir": str(folder / "cache")},
            "model": {"arch": "resnet18", "weights": "none"},
            "training": {"epochs": 1, "global_batch_size": 4, "microbatch_size": 2},
            "storage": {"root": str(folder / "storage")},
        }
    )


def test_its_files_are_written_again_from_its_trials_where_they_do_not_fit(job: JobConfig) -> None:
    config, space = read_search_text(SEARCH, "a test")
    directory = SearchDirectory.named(job.storage.root, "finished")
    start = prepare_search(job, config, space, directory)
    directory.claim(start.identity, 1.0)
    default = space.default(start.facts.job)
    for number, rate in enumerate([default["optimizer.learning_rate"], 0.05]):
        epoch = {"epoch": 1.0, "val/macro_f1": 0.5 + number / 10, "val/loss": 1.0}
        params = {"optimizer.learning_rate": rate}
        directory.write_trial(
            TrialRecord(number, params, number == 0, "finished", (0.5 + number / 10,), (epoch,), slot=0)
        )

    best = RunDirectory(directory.trial(directory.read_trials()[1].digest))
    best.write_records(
        job_with(start.facts.job, directory.read_trials()[1].params),
        start.data.summary(),
        write_split_csv(start.data.split_rows()),
    )

    first = run_tune(job, config, space)
    assert first.already_finished
    assert first.repaired == ("search.json", "trials.parquet", "best.toml")
    assert (first.best and first.best.number, json.loads(directory.store.read("search.json"))["best"]) == (1, 1)
    assert "<html" in directory.store.read("report/index.html").decode()
    assert run_tune(job, config, space).repaired == ()

    whole = {name: best.store.read(name) for name in (*RECORDS, SEAL)}
    for name, content in whole.items():
        best.store.write(name, content[: len(content) // 2])
    assert run_tune(job, config, space).repaired == ()
    assert {name: best.store.read(name) for name in whole} == whole

    directory.store.write("search.json", b'{"schema": 1, "trials": []}')
    directory.store.write("trials.parquet", b"PAR1")
    again = run_tune(job, config, space)
    assert again.repaired == ("search.json", "trials.parquet")
    assert json.loads(directory.store.read("search.json"))["best"] == 1
    assert run_tune(job, config, space).repaired == ()
