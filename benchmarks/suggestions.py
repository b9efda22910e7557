"""How a search's own work grows with its trials: seconds for each suggestion, and the driver's memory.

    python -m benchmarks.suggestions [--trials 1000] [--every 100] [--json FILE]

The space that ships, searched with the study, the sampler and the journal of a real search; trials are trivial: their
value is a smooth function of their parameters, and every third of them is ended early.
"""

import argparse
import json
import math
import statistics
import tempfile
from pathlib import Path
from time import perf_counter

import psutil

from ray_jobs.job.config import JobConfig
from ray_jobs.search.optuna_study import Draws, StudySearch
from ray_jobs.search.parameter import Params
from ray_jobs.search.toml import read_search
from ray_jobs.search.trainable import params_of

MIB = 2**20


def value_of(params: Params) -> float:
    """The trivial objective, best at a learning rate of 0.03 and without dropout."""
    rate, dropout = float(params["optimizer.learning_rate"]), float(params["model.dropout"])  # type: ignore[arg-type]
    return 1.0 - 0.1 * math.log10(rate / 0.03) ** 2 - 0.2 * dropout


def main() -> None:
    """Measure and print a row for every so many trials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    config, space = read_search(None, {})
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="rd-suggestions-") as scratch:
        journal = Path(scratch) / "journal"
        search = StudySearch(config, space, Draws(0, 1), journal, [], [space.default(JobConfig())])
        told: list[float] = []
        for number in range(args.trials):
            params = params_of(search.suggest(str(number)))
            began = perf_counter()
            result = {"epoch": 1, "objective": value_of(params), "state": "finished" if number % 3 else "running"}
            search.on_trial_complete(str(number), result)
            told.append(perf_counter() - began)
            if (number + 1) % args.every == 0:
                rows.append(
                    {
                        "trials": number + 1,
                        "suggest_ms": 1000 * statistics.median(search.suggest_s[-args.every :]),
                        "tell_ms": 1000 * statistics.median(told[-args.every :]),
                        "memory_mib": psutil.Process().memory_info().rss / MIB,
                        "journal_kib": journal.stat().st_size / 1024,
                    }
                )
                print({key: round(value, 1) for key, value in rows[-1].items()}, flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
