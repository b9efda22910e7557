"""A search that faults strike, compared trial by trial with an undisturbed one."""

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.chaos.command import Command, StuckError
from benchmarks.chaos.faults import Fault, Target
from benchmarks.chaos.strike import Course, Struck
from benchmarks.chaos.training import digest_of, job_for
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import print_config
from ray_jobs.run.directory import RunDirectory
from ray_jobs.search.records import SearchDirectory
from ray_jobs.search.toml import read_search_text
from ray_jobs.search.tune import run_tune

_TRIALS = 8
_EPOCHS = 6
_SEARCH = f"""
trials = {_TRIALS}
sampler = "random"
scheduler = "none"

[space]
"optimizer.learning_rate" = {{ log_uniform = [0.001, 0.1] }}
"""


def disturbed_search(folder: Path, faults: Sequence[Fault], draw: random.Random) -> list[Struck]:
    """A search that lives through these faults in random order."""
    storage = folder / "search"
    job = _job(folder, storage)
    config, search = folder / "search-job.toml", folder / "search.toml"
    config.write_text(print_config(job))
    search.write_text(_SEARCH)
    command = Command(["tune", "--config", str(config), "--search", str(search)], folder / "search.log")
    target = Target(command, storage / "searches/search", None, draw)
    course = Course("search", partial(_epochs, storage), partial(_epochs, storage), spread=2)
    struck: list[Struck] = []
    command.start()
    try:
        for fault in draw.sample(list(faults), len(faults)):
            struck.append(course.strike(fault, target))
            print(f"  {struck[-1]}", flush=True)
            if struck[-1].problem:
                print(command.log.read_text()[-2000:], flush=True)
                return struck
        code = command.wait_for_end()
        problem = f"the search ended with {code}" if code else _difference(folder, storage)
    except StuckError as error:
        problem = str(error)
    finally:
        command.stop()
    for each in struck:
        each.problem, each.compared = each.problem or problem, not problem
    return struck


def _job(folder: Path, storage: Path) -> JobConfig:
    job = job_for(folder, storage, "search", _EPOCHS)
    cluster = job.cluster.model_copy(update={"num_workers": 1, "local_cpus": 2})
    checkpoint = job.checkpoint.model_copy(update={"keep_losers": True})  # all trials are compared
    return job.model_copy(update={"cluster": cluster, "checkpoint": checkpoint})


def _epochs(storage: Path) -> int:
    """Over all trials: what has been validated."""
    folder = storage / "searches/search/trials"
    return sum(_progress(path) for path in folder.iterdir()) if folder.is_dir() else 0


def _progress(trial: Path) -> int:
    status = RunDirectory.find(str(trial), "").read_status() if (trial / "config.toml").exists() else None
    return 0 if status is None else status.epoch


def _difference(folder: Path, storage: Path) -> str:
    """How the search's trials differ from those of an undisturbed one; empty where they do not."""
    other = folder / "undisturbed-search"
    if not other.exists():
        run_tune(_job(folder, other), *read_search_text(_SEARCH, "the search"))
    found, expected = _trials(storage), _trials(other)
    if found.keys() != expected.keys():
        return f"{len(found.keys() ^ expected.keys())} trials are not those of an undisturbed search"
    differ = [name for name, digest in found.items() if digest != expected[name]]
    return f"{len(differ)} trials have learnt other weights, such as {differ[0]}" if differ else ""


def _trials(storage: Path) -> dict[str, str]:
    directory = SearchDirectory.named(str(storage), "search")
    records = directory.read_trials()
    over = [record for record in records if record.state == "finished"]
    return {record.digest: digest_of(RunDirectory(directory.trial(record.digest))) for record in over}
