"""What a command line asks a cluster for: the job complete, its name there, and what makes it the same job again."""

import hashlib
import json
import uuid
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Literal

from cluster.jobs import JobRequest, Verb
from cluster.kube.jobs.names import job_name
from cluster.storage.store import child_uri, refuse_credentials
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig, run_name
from ray_jobs.job.identity import identity
from ray_jobs.job.toml import print_config, print_overrides
from ray_jobs.job.toml_codec import merged
from ray_jobs.run.directory import RUNS, names_a_place
from ray_jobs.search.config import SearchConfig
from ray_jobs.search.records import SEARCHES
from ray_jobs.search.space import Space
from ray_jobs.search.toml import print_search, search_identity


def training_request(job: JobConfig) -> JobRequest:
    """Training as a job. `job.cluster` is what the workers there are told."""
    name = run_name(job)
    return _request(
        "train", job_name(name, "train"), (), print_config(job), None, _same(job, {}), _place(job, RUNS, name)
    )


def search_request(job: JobConfig, config: SearchConfig, space: Space, warm_start: str | None) -> JobRequest:
    """A search as a job."""
    name = run_name(job)
    arguments = () if warm_start is None else ("--warm-start", warm_start)
    same = _same(job, search_identity(config, space))
    toml, search = print_config(job), print_search(config, space)
    return _request("tune", job_name(name, "tune"), arguments, toml, search, same, _place(job, SEARCHES, name))


def request_on_run(
    verb: Literal["evaluate", "export"],
    run: str,
    options: tuple[str, ...],
    overrides: Mapping[str, Any],
    job: JobConfig,
) -> JobRequest:
    """Work on a finished run as a job; `overrides` are what differs from the run's own job.

    Raises ConfigError for a run on this machine, which no pod could see.
    """
    if names_a_place(run) and "://" not in run and not run.startswith("/"):
        raise ConfigError(
            f"{verb} {run} is a folder of this machine, and the cluster sees none of it; name a run under "
            "storage.root, a URI, or an absolute path that the cluster has, too"
        )
    refuse_credentials(run)
    place = run if names_a_place(run) else child_uri(job.storage.root, f"{RUNS}/{run}")
    name = PurePosixPath(place.partition("?")[0]).name
    told = merged(overrides, {} if names_a_place(run) else {"storage": {"root": job.storage.root}})
    changes = {
        section: value for section, value in overrides.items() if section not in {"cluster", "storage"} and value
    }
    what = {"run": place, "options": list(options), "overrides": changes}
    # Two evaluations of one run with other options are two jobs, and both may stand side by side.
    full = f"{name}-{_digest(what)[:6]}" if options or changes else name
    return _request(verb, job_name(full, verb), (run, *options), print_overrides(told), None, what, place)


def check_reachable(job: JobConfig, mounted: str) -> None:
    """Raise ConfigError for storage or data on this machine: pods see URIs and what is mounted at `mounted` in them."""
    places = {"storage.root": job.storage.root, "data.root": job.data.root, "data.labels": job.data.labels}
    for key, value in places.items():
        refuse_credentials(value)
        relative = key == "data.labels" and not value.startswith("/")  # below data.root
        if value and not relative and "://" not in value and not (value == mounted or value.startswith(f"{mounted}/")):
            raise ConfigError(
                f"{key}={value} is a folder of this machine, and the cluster sees none of it; give a URI such as "
                f"s3://bucket/folder, or a folder below {mounted}, where the pods see their shared claim"
            )


def _request(
    verb: Verb,
    name: str,
    arguments: tuple[str, ...],
    job_toml: str,
    search_toml: str | None,
    same: Mapping[str, Any],
    run: str,
) -> JobRequest:
    return JobRequest(
        name=name,
        verb=verb,
        arguments=arguments,
        job_toml=job_toml,
        search_toml=search_toml,
        identity=_digest({"verb": verb, **same}),
        submission=str(uuid.uuid4()),
        run=run,
    )


def _same(job: JobConfig, more: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the result, as far as it is known before the data are read: where they are stands for them."""
    return {**identity(job, ""), **more, "data.root": job.data.root, "data.labels": job.data.labels}


def _place(job: JobConfig, folder: str, name: str) -> str:
    return child_uri(job.storage.root, f"{folder}/{name}")


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=list).encode()).hexdigest()
