"""Every command as a function: it takes the job's config tree, prints nothing, and returns what the command shows.

    from ray_jobs import api
    from ray_jobs.job.toml import read_job

    outcome = api.train(read_job(Path("job.toml"), {"training": {"epochs": 3}}))
    evaluation = api.evaluate(outcome.run)

Importing this module is cheap: each function imports what it runs. Errors are those of the tree in `ray_jobs.errors`.
Functions with `say` pass it the lines that a person should see while they work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ray_jobs.compression_api import (
    compress_chain,
    compress_distill,
    compress_plan,
    compress_prune,
    compress_quantize,
    compress_show,
)
from ray_jobs.data_api import diff, inspect, sample, split
from ray_jobs.pool_api import (
    Say,
    job_objects,
    jobs_list,
    jobs_logs,
    jobs_status,
    jobs_stop,
    jobs_wait,
    queue_create,
    queue_list,
    queue_objects,
    queue_show,
    queue_usage,
    run_on_ray,
    silent,
    submit_to_pool,
    submit_to_ray,
)
from ray_jobs.storage_api import runs_list, runs_show, searches_list

if TYPE_CHECKING:
    from cluster.config import ClusterConfig
    from cluster.health.preflight import NodeCheck
    from ray_jobs.bundles.benchmark import BenchmarkOptions, BenchmarkOutcome
    from ray_jobs.bundles.export import ExportOutcome
    from ray_jobs.bundles.promote import Promotion
    from ray_jobs.bundles.pull import PullOutcome
    from ray_jobs.evaluation.evaluate import EvaluationOutcome
    from ray_jobs.job.config import JobConfig
    from ray_jobs.prediction.on_cluster import Parts
    from ray_jobs.prediction.predict import PredictOptions
    from ray_jobs.prediction.tally import Tally
    from ray_jobs.run.outcome import TrainOutcome
    from ray_jobs.search.config import SearchConfig
    from ray_jobs.search.dry_run import SearchPlan
    from ray_jobs.search.space import Space
    from ray_jobs.search.tune import SearchOutcome
    from ray_jobs.training.cross_validation import FoldsOutcome
    from resnet_dist.runtime.predictor import Prediction

__all__ = [
    "benchmark",
    "compress_chain",
    "compress_distill",
    "compress_plan",
    "compress_prune",
    "compress_quantize",
    "compress_show",
    "cross_validate",
    "diff",
    "doctor",
    "evaluate",
    "export",
    "inspect",
    "job_objects",
    "jobs_list",
    "jobs_logs",
    "jobs_status",
    "jobs_stop",
    "jobs_wait",
    "plan_search",
    "predict",
    "predict_in_parts",
    "promote",
    "pull",
    "queue_create",
    "queue_list",
    "queue_objects",
    "queue_show",
    "queue_usage",
    "report",
    "rollback",
    "run_on_ray",
    "runs_list",
    "runs_show",
    "sample",
    "searches_list",
    "split",
    "submit_to_pool",
    "submit_to_ray",
    "train",
    "tune",
]

Changes = Mapping[str, Any]
"""Fields that differ from a run's own job, nested by section: {"data": {"root": "/data/parts"}}."""


def train(job: JobConfig, *, submission: str | None = None) -> TrainOutcome:
    """Train the job's run from where it stands. `submission` names the caller, so that its retries are known."""
    from ray_jobs.training.early_checks import check_training

    check_training(job, submission)
    from ray_jobs.training.driver import run_train

    return run_train(job, submission)


def cross_validate(job: JobConfig, *, submission: str | None = None) -> FoldsOutcome:
    """Train a run for each of `data.folds`."""
    from ray_jobs.training.early_checks import check_training

    check_training(job, submission)
    from ray_jobs.training.cross_validation import run_folds

    return run_folds(job, submission)


def tune(
    job: JobConfig, search: SearchConfig, space: Space, *, warm_start: str | None = None, submission: str | None = None
) -> SearchOutcome:
    """Search for a better configuration than the job's own, or continue a search of the same name and space.

    `ray_jobs.search.toml.read_search` reads a search and its space. `warm_start` names an earlier search.
    """
    from ray_jobs.search.early_checks import check_search

    check_search(job, search, warm_start, submission)
    from ray_jobs.search.tune import run_tune

    return run_tune(job, search, space, warm_start, submission)


def plan_search(job: JobConfig, search: SearchConfig, space: Space) -> SearchPlan:
    """What a search would try, how long it would take and what it would store."""
    from ray_jobs.training.early_checks import check_images, check_teacher, check_weights

    check_images(job)
    check_weights(job)
    check_teacher(job)
    began = perf_counter()
    from ray_jobs.search.dry_run import plan_search

    return plan_search(job, search, space, perf_counter() - began)


def report(target: str, *, storage_root: str = "outputs") -> str:
    """Render a search's results as one HTML file; returns its URI. `target`: a path, a URI or the search's name."""
    from ray_jobs.search.report_page import run_report

    return run_report(target, storage_root)


def evaluate(
    run: str, *, split: str | None = None, checkpoint: str = "best", changes: Changes | None = None
) -> EvaluationOutcome:
    """Judge a run's model on a split, by default test where there is one, else val. `run`: a path, a URI, or a name
    under the storage root of `changes`; `checkpoint`: best, last or a step."""
    _check_run(run, checkpoint, changes or {})
    from ray_jobs.evaluation.evaluate import run_evaluate

    return run_evaluate(run, split, checkpoint, changes or {})


def export(
    run: str,
    *,
    checkpoint: str = "best",
    changes: Changes | None = None,
    output: Path | None = None,
    say: Say = silent,
) -> ExportOutcome:
    """Turn a run into a bundle, in the run or in the folder `output`. Formats that failed a gate are in `refused`."""
    _check_run(run, checkpoint, changes or {})
    from ray_jobs.bundles.export import run_export

    return run_export(run, checkpoint, changes or {}, output, say)


def _check_run(run: str, checkpoint: str, changes: Changes) -> None:
    """Raise what is wrong with the arguments before torch is imported."""
    from ray_jobs.data.places import check_places
    from ray_jobs.run.lookup import find_run, job_of_run, which_checkpoint

    which_checkpoint(checkpoint)
    found = find_run(run, changes)
    found.records.has_warned = True  # the command itself will say what there is to say
    check_places(job_of_run(found, changes).data)


def benchmark(
    bundle: str,
    options: BenchmarkOptions | None = None,
    *,
    run: str | None = None,
    storage_root: str = "outputs",
    say: Say = silent,
) -> BenchmarkOutcome:
    """Measure how fast a bundle's formats are on this machine. `run`: the run that the bundle was made of."""
    from ray_jobs.bundles.benchmark import BenchmarkOptions, run_benchmark

    return run_benchmark(bundle, options or BenchmarkOptions(), run, storage_root, say)


def promote(
    run: str, *, name: str | None = None, storage_root: str = "outputs", accept_inconclusive: bool = False
) -> Promotion:
    """Make a run's bundle the production bundle of `name`, by default the run's own."""
    from ray_jobs.bundles.promote import run_promote

    return run_promote(run, name, storage_root, accept_inconclusive=accept_inconclusive)


def rollback(name: str, *, storage_root: str = "outputs") -> Promotion:
    """Put the bundle back that was in production before; again: the later one."""
    from ray_jobs.bundles.promote import run_rollback

    return run_rollback(name, storage_root)


def pull(name: str, to: Path, *, storage_root: str = "outputs", verify_key: Path | None = None) -> PullOutcome:
    """Fetch a bundle into the folder `to`. `name`: NAME, NAME@DIGEST, or the path or URI of a bundle or a run."""
    from ray_jobs.bundles.pull import run_pull

    return run_pull(name, to, storage_root, verify_key)


def predict(
    bundle: str, images: Iterable[str], options: PredictOptions | None = None, *, storage_root: str | None = None
) -> Iterator[tuple[str, Prediction]]:
    """Each image's path with the bundle's answer, in order, without torch. `images`: files, folders, patterns."""
    from ray_jobs.bundles.lookup import local_bundle
    from ray_jobs.prediction.predict import PredictOptions, predictions

    return predictions(local_bundle(bundle, storage_root), images, options or PredictOptions())


def predict_in_parts(
    bundle: str,
    images: Iterable[str],
    parts: Parts,
    cluster: ClusterConfig,
    options: PredictOptions | None = None,
    *,
    storage_root: str | None = None,
) -> Tally:
    """Write the answers as parts, by processes of Ray; a call after a killed one keeps the complete parts."""
    from ray_jobs.bundles.lookup import local_bundle
    from ray_jobs.prediction.on_cluster import run_predict_on_cluster
    from ray_jobs.prediction.predict import PredictOptions

    place = local_bundle(bundle, storage_root)
    return run_predict_on_cluster(place, images, options or PredictOptions(), parts, cluster)


def doctor(job: JobConfig, *, timeout_s: float = 60.0) -> Sequence[NodeCheck]:
    """Check whether this machine can run the job (`node` is empty), or each node of the Ray at `cluster.address`."""
    if job.cluster.address is None:
        from cluster.health.preflight import NodeCheck
        from ray_jobs.doctor.machine import diagnose

        return [NodeCheck("", check) for check in diagnose(job)]
    from ray_jobs.doctor.cluster import diagnose_cluster

    return diagnose_cluster(job, timeout_s)
