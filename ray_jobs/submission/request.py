"""From a SubmitCommand to a JobRequest: the complete job, its name there, and what makes it the same job again."""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from cluster.jobs import JobRequest, Verb
from cluster.kube.jobs.names import job_name
from cluster.storage.store import absolute_root, child_uri
from ray_jobs.compression.names import VERBS, result_name
from ray_jobs.compression.recipe import recipe_of
from ray_jobs.compression.request import PruneRequest, check_max_loss
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig, run_name
from ray_jobs.job.identity import identity
from ray_jobs.job.toml import print_config, print_overrides
from ray_jobs.job.toml_codec import merged
from ray_jobs.run.argument import RUNS, names_a_place
from ray_jobs.search.records import SEARCHES
from ray_jobs.search.toml import print_search, search_identity
from ray_jobs.submission import entrypoint
from ray_jobs.submission.command import SubmitCommand


def request_of(command: SubmitCommand, cluster: Mapping[str, Any]) -> JobRequest:
    """The command as a job; `cluster` replaces keys of its [cluster]. Raises ConfigError for what cannot work there."""
    job = command.job.model_copy(update={"cluster": command.job.cluster.model_copy(update=dict(cluster))})
    match command.verb:
        case "evaluate":
            return _request_on_run(command, job, {**command.overrides, "cluster": cluster})
        case "export":
            return _request_on_run(command, job, command.overrides)
        case "compress":
            return _compress_request(command, job, {**command.overrides, "cluster": cluster})
        case "train" | "tune":
            if not job.data.root and job.data.source != "synthetic":
                raise ConfigError("data.root is not set; name an ImageFolder with --data.root URI")
            return _training_request(command, job) if command.search is None else _search_request(command, job)


def ray_request(command: SubmitCommand) -> JobRequest:
    """A job for a running Ray, which is expected to have the command's folders under the same absolute paths."""
    sections = {"storage": command.job.storage, "data": command.job.data}
    absolute = {
        name: section.model_copy(update={"root": absolute_root(section.root)})
        for name, section in sections.items()
        if section.root
    }
    overrides = dict(command.overrides)
    for name, section in absolute.items():
        if "root" in overrides.get(name, {}):
            overrides = merged(overrides, {name: {"root": section.root}})
    there = replace(command, job=command.job.model_copy(update=absolute), overrides=overrides)
    return request_of(there, {"address": "auto"})


def check_reachable(job: JobConfig, mounted: str) -> None:
    """Raise ConfigError for storage or data on this machine: pods see URIs, and folders below `mounted`."""
    places = {"storage.root": job.storage.root, "data.root": job.data.root, "data.labels": job.data.labels}
    for key, value in places.items():
        relative = key == "data.labels" and not value.startswith("/")  # below data.root
        if value and not relative and "://" not in value and not (value == mounted or value.startswith(f"{mounted}/")):
            raise ConfigError(
                f"{key}={value} is a folder of this machine, which the cluster cannot see; give a URI such as "
                f"s3://bucket/folder, or a folder below {mounted}, where the pods mount their shared claim"
            )


def _training_request(command: SubmitCommand, job: JobConfig) -> JobRequest:
    name = run_name(job)
    run = child_uri(job.storage.root, f"{RUNS}/{name}")
    request = _request("train", name, same=_same(job), run=run, job_toml=print_config(job))
    return request if command.then is None else replace(request, then=(command.then, run, *command.options))


def _search_request(command: SubmitCommand, job: JobConfig) -> JobRequest:
    if command.search is None:
        raise ValueError("a command without a search")
    name = run_name(job)
    request = _request(
        "tune",
        name,
        same={**_same(job), **search_identity(*command.search)},
        run=child_uri(job.storage.root, f"{SEARCHES}/{name}"),
        job_toml=print_config(job),
    )
    arguments = () if command.warm_start is None else ("--warm-start", command.warm_start)
    return replace(request, arguments=arguments, search_toml=print_search(*command.search))


def _request_on_run(command: SubmitCommand, job: JobConfig, overrides: Mapping[str, Any]) -> JobRequest:
    """Work on a finished run. Raises ConfigError for a run on this machine, which no pod could see."""
    run, options = command.run, command.options
    place = _place_of(command, job)
    name = PurePosixPath(place.partition("?")[0]).name
    config = merged(overrides, {} if names_a_place(run) else {"storage": {"root": job.storage.root}})
    changes = {
        section: value for section, value in overrides.items() if section not in {"cluster", "storage"} and value
    }
    same = {"run": place, "options": list(options), "overrides": changes}
    # Two evaluations of one run with other options are two jobs, and both may stand side by side.
    full = f"{name}-{_digest(same)[:6]}" if options or changes else name
    request = _request(command.verb, full, same=same, run=place, job_toml=print_overrides(config))
    return replace(request, arguments=(run, *options))


def _place_of(command: SubmitCommand, job: JobConfig) -> str:
    """Path or URI of the run that a command works on. Raises ConfigError for one that the cluster cannot see."""
    run = command.run
    if names_a_place(run) and "://" not in run and not run.startswith("/"):
        raise ConfigError(
            f"{command.verb} {run} is a folder of this machine, which the cluster cannot see; name a run under "
            "storage.root, a URI, or an absolute path that the cluster has, too"
        )
    return run if names_a_place(run) else child_uri(job.storage.root, f"{RUNS}/{run}")


def _compress_request(command: SubmitCommand, job: JobConfig, overrides: Mapping[str, Any]) -> JobRequest:
    """Its name is that of the run that it makes."""
    verb, *words = command.options
    if verb not in VERBS:
        raise ConfigError(f"submit compress {verb}: it is one of {', '.join(VERBS)}; the others need no cluster")
    given = _flags_in(words)
    run, recipe = command.run, given.get("--recipe", "")
    _check_compression(given)
    name = job.name or result_name(run, verb, recipe)
    same = {"run": _place_of(command, job), "options": list(command.options), **_same(job)}
    config = merged(overrides, {"storage": {"root": job.storage.root}})
    written = child_uri(job.storage.root, f"{RUNS}/{name}")
    request = _request("compress", name, same=same, run=written, job_toml=print_overrides(config))
    return replace(request, arguments=(verb, run, *words))


def _flags_in(words: Sequence[str]) -> dict[str, str]:
    """Flags and their values; of a switch an empty one."""
    found = dict[str, str]()
    for word in words:
        if word.startswith("--"):
            found[word] = ""
        else:
            found[list(found)[-1]] = word
    return found


def _check_compression(given: Mapping[str, str]) -> None:
    """Raise ConfigError for options of `compress` that it would refuse there."""
    if (recipe := given.get("--recipe")) is not None:
        if recipe.endswith(".toml"):
            raise ConfigError(f"--recipe {recipe} is a file of this machine; name one that ships, or submit its phases")
        recipe_of(recipe)
    if "--target" in given:
        PruneRequest.of_words(given)
    if (points := given.get("--max-loss")) is not None:
        check_max_loss(float(points))


def _request(verb: Verb, name: str, *, same: Mapping[str, Any], run: str, job_toml: str) -> JobRequest:
    """`same`: what makes two requests the same job, besides the verb."""
    return JobRequest(
        name=job_name(name, verb),
        verb=verb,
        arguments=(),
        job_toml=job_toml,
        search_toml=None,
        identity=_digest({"verb": verb, **same}),
        submission=str(uuid.uuid4()),
        run=run,
        module=entrypoint.__name__,
    )


def _same(job: JobConfig) -> dict[str, Any]:
    """What decides the result, as far as it is known before the data are read: their place stands for them."""
    return {**identity(job, ""), "data.root": job.data.root, "data.labels": job.data.labels}


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=list).encode()).hexdigest()
