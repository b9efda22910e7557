"""MLflow through its client: a tracking server, or a database in the run directory."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import time
from typing import Any
from urllib.parse import urlsplit

from ray_jobs.job.tracker import refuse_relative
from ray_jobs.trackers.high_water_mark import HighWaterMark
from ray_jobs.trackers.tracker import ExitState, Plain, TrackedRun, TrackerError, optional_module
from resnet_dist.runtime.telemetry import refuse_telemetry

_PARAMS_PER_CALL = 100
_RUN_TAG = "resnet_dist.run_id"
_ENDS: dict[ExitState, str] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
# Its own defaults go on for many minutes. Whoever sets them in the environment wins.
_BOUNDS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


class MlflowTracker:
    """One MLflow run, found again by a tag with the run's id."""

    def __init__(self, run: TrackedRun, uri: str | None) -> None:
        self._tracked = run
        self._uri = uri
        self._entities: Any = None
        self._client: Any = None
        self._run_id = ""
        self._high_water_mark = HighWaterMark(None)
        self.link = ""

    def start(self) -> str | None:
        """Begin or go on with the run of this id."""
        refuse_telemetry()
        for name, value in _BOUNDS.items():
            os.environ.setdefault(name, value)
        client_module = optional_module("mlflow.tracking", "tracking")
        self._entities = optional_module("mlflow.entities", "tracking")
        run = self._tracked
        uri = self._uri or _uri_of_environment() or _own_database(run)
        self._client = client_module.MlflowClient(uri)
        experiment = self._experiment(run.project, uri)
        found = self._client.search_runs([experiment], f"tags.`{_RUN_TAG}` = '{run.id}'", max_results=1)
        if found:
            self._go_on(found[0], run)
        else:
            # MLflow's tags are pairs; its page shows one without a value by its name.
            tags = {**dict.fromkeys(run.tags, ""), _RUN_TAG: run.id}
            self._run_id = self._client.create_run(experiment, run_name=run.name, tags=tags).info.run_id
            self._log_params(run.config)
        is_server = uri.startswith(("http://", "https://"))
        self.link = f"{uri.rstrip('/')}/#/experiments/{experiment}/runs/{self._run_id}" if is_server else uri
        return None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record what was not recorded before."""
        if not self._high_water_mark.is_new(step, metrics):
            return
        now = int(time() * 1000)
        numbers = [self._entities.Metric(name, value, now, step) for name, value in metrics.items()]
        self._client.log_batch(self._run_id, metrics=numbers, synchronous=True)
        self._high_water_mark.record(step, metrics)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Plain]]) -> None:
        """A JSON artifact in the form that MLflow shows as a table."""
        data = {"columns": list(columns), "data": [list(row) for row in rows]}
        self._client.log_dict(self._run_id, data, f"{name}.json")

    def epoch_done(self) -> None:
        """Nothing: each call is stored when it returns."""

    def finish(self, state: ExitState) -> None:
        """Say how the run ended."""
        self._client.set_terminated(self._run_id, _ENDS[state])

    def _experiment(self, project: str, uri: str) -> str:
        found = self._client.get_experiment_by_name(project)
        if found is not None:
            return found.experiment_id
        return self._client.create_experiment(project, artifact_location=artifact_location(uri, project))

    def _go_on(self, found: Any, run: TrackedRun) -> None:
        self._run_id = found.info.run_id
        self._client.update_run(self._run_id, status="RUNNING")
        # A parameter cannot change in MLflow: the first value stays, new keys are added.
        self._log_params({key: value for key, value in run.config.items() if key not in found.data.params})
        for name in ("train/loss", "val/loss"):
            if name in found.data.metrics:
                history = self._client.get_metric_history(self._run_id, name)
                self._high_water_mark.reach(max(metric.step for metric in history), [name])

    def _log_params(self, config: Mapping[str, Plain]) -> None:
        params = [self._entities.Param(key, str(value)) for key, value in config.items()]
        for start in range(0, len(params), _PARAMS_PER_CALL):
            self._client.log_batch(self._run_id, params=params[start : start + _PARAMS_PER_CALL], synchronous=True)


def artifact_location(uri: str, project: str) -> str | None:
    """Where a new experiment keeps its artifacts; None where a server decides.

    A database alone would put them below whatever folder the worker happens to run in. They are every run's of the
    experiment: beside the file of a database that is one. Raises TrackerError for a database that is a server.
    """
    parts = urlsplit(uri)
    kind = parts.scheme.partition("+")[0]
    if kind == "sqlite":
        return (Path(parts.path[1:]).parent / "mlartifacts").as_uri()
    if kind in {"postgresql", "mysql", "mssql"}:
        raise TrackerError(
            f"the {kind} database has no experiment {project!r}, and made from here it would keep its artifacts in a "
            f"folder of this machine; make it first, saying where: mlflow experiments create -n {project!r} "
            "--artifact-location URI"
        )
    return None


def _uri_of_environment() -> str | None:
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return None
    try:
        refuse_relative("MLFLOW_TRACKING_URI", uri)
    except ValueError as error:
        raise TrackerError(str(error)) from error
    return uri


def _own_database(run: TrackedRun) -> str:
    if run.upload is not None:
        raise TrackerError(
            f"{run.place} cannot hold MLflow's database, which must be on a file system; set tracker.uri or "
            "MLFLOW_TRACKING_URI to a server, or use tracker.kind=tensorboard"
        )
    run.folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{run.folder}/mlflow.db"
