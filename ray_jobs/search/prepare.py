"""What a search starts from: everything that can be checked on the driver, and the data, indexed once."""

from dataclasses import dataclass
from typing import Any

import ray

from cluster.session.nodes import node_capacities
from cluster.session.resources import WorkerPlan, local_resources
from cluster.storage.process_identity import ProcessIdentity
from data_pipeline.splits.assign import write_split_csv
from ray_jobs.data.node_images import NodeImages
from ray_jobs.data.prepare import PreparedData, prepare_data
from ray_jobs.errors import ConfigError
from ray_jobs.inspection.leakage import check_leakage
from ray_jobs.job.config import JobConfig, run_name
from ray_jobs.job.identity import identity
from ray_jobs.run.directory import RunDirectory
from ray_jobs.search.actors import DispatcherClient
from ray_jobs.search.config import SearchConfig
from ray_jobs.search.records import SearchDirectory
from ray_jobs.search.results import SearchFacts
from ray_jobs.search.slots import plan_slots
from ray_jobs.search.space import Space, job_with
from ray_jobs.search.toml import search_identity
from ray_jobs.search.trial_worker import Slot, WeightsKey, key_of
from ray_jobs.training.feature_sharing import GIB, FeatureSharing
from ray_jobs.training.initial_weights import InitialWeights
from ray_jobs.training.resolve import check_compiler, resolved_job
from ray_jobs.training.teacher_network import TeacherNetwork

_VIEWS = {
    f"data.{name}" for name in ("image_size", "image_width", "resize", "crop_fraction", "pad_colour", "mean", "std")
}
"""Searchable fields that preprocess.json repeats."""


@dataclass(frozen=True)
class SearchStart:
    """A search that can start: all that was checked, on the driver."""

    facts: SearchFacts
    data: PreparedData
    plan: WorkerPlan
    """Of each trial's workers."""
    slots: int
    """Trials at a time."""
    initial_weights: dict[WeightsKey, InitialWeights]
    teacher: TeacherNetwork | None
    """Of all trials."""
    identity: dict[str, Any]
    leaks: tuple[str, ...]
    """What a person should know of the data, see `check_leakage`."""


def prepare_search(job: JobConfig, config: SearchConfig, space: Space, directory: SearchDirectory) -> SearchStart:
    """Check all that can be checked, and index the data once. Writes nothing. Raises as `run_tune` does."""
    if job.cluster.address is None:
        cpus, gpus = local_resources(job.cluster)
        nodes = [(cpus, float(gpus))]
    else:
        nodes = node_capacities()
    plan, slots = plan_slots(job.cluster, config, nodes)
    if not job.data.root:
        raise ConfigError("data.root is not set; name an ImageFolder with --data.root DIR")
    if job.data.folds is not None and job.data.fold is None:
        raise ConfigError("data.folds trains each trial several times; search with one of them, such as --data.fold 0")
    if config.total_epochs is not None and config.total_epochs < job.training.epochs:
        raise ConfigError(
            f"search.total_epochs={config.total_epochs} ends before the default configuration has trained its "
            f"training.epochs={job.training.epochs}; give at least as many"
        )
    _refuse_other_views(job, space)
    space.check(job)
    check_compiler(job, plan.use_gpu)
    data = prepare_data(job)
    leaks = check_leakage(job, data.dataset)
    trials = RunDirectory(directory.store.child("trials/none"))
    resolved = resolved_job(job, trials, data, plan.use_gpu)
    resolved = resolved.model_copy(
        update={
            "checkpoint": resolved.checkpoint.model_copy(update={"monitor": config.objectives[0]}),
            "cluster": resolved.cluster.model_copy(
                update={
                    "num_workers": plan.num_workers,
                    "cpus_per_worker": plan.cpus_per_worker,
                    "use_gpu": plan.use_gpu,
                }
            ),
            "tracker": resolved.tracker.model_copy(update={"group": resolved.tracker.group or run_name(job)}),
        }
    )
    samples = data.dataset.samples
    facts = SearchFacts(
        name=run_name(job),
        job=resolved,
        config=config,
        space=space,
        classes=len(samples.classes),
        train=data.counts.get("train", 0),
        val=data.counts.get("val", 0),
    )
    initial_weights = {
        key_of(each): InitialWeights.of(each, len(samples.classes)) for each in _networks(resolved, space)
    }
    who = {**identity(resolved, data.dataset.fingerprint), **search_identity(config, space)}
    who["training.epochs"] = resolved.training.epochs
    return SearchStart(facts, data, plan, slots, initial_weights, TeacherNetwork.of(resolved), who, leaks)


def _refuse_other_views(job: JobConfig, space: Space) -> None:
    views = [each.field for each in space.parameters if each.field in _VIEWS]
    if job.distillation.teacher is not None and views:
        raise ConfigError(
            f"space {views[0]}: cannot be searched with distillation.teacher={job.distillation.teacher}, which knows "
            "images of one preprocessing; set it in the job"
        )


def _networks(job: JobConfig, space: Space) -> list[JobConfig]:
    """A job for each network that the space can ask for, the default one among them."""
    found = [job]
    for parameter in space.parameters:
        if parameter.field in ("model.arch", "model.weights", "model.squeeze_excite", "model.widths"):
            found += [job_with(each, {parameter.field: value}) for each in found for value in parameter.choices]
    return list({key_of(each): each for each in found}.values())


def slot_of(
    start: SearchStart, directory: SearchDirectory, dispatcher: DispatcherClient, submission: str, last_checkpoint: str
) -> Slot:
    """What the workers of every slot need, for all trials. Its initial weights lie in Ray's object store.

    `last_checkpoint`: the key under which the driver asks for one.
    """
    facts, data = start.facts, start.data
    train, val = data.split("train"), data.split("val")
    return Slot(
        dispatcher=dispatcher,
        search_uri=directory.uri,
        train=train,
        val=val,
        images=NodeImages.of(facts.job.data, train, val),
        plan=start.plan,
        dataset=data.summary(),
        split_csv=write_split_csv(data.split_rows()),
        initial_weights={key: ray.put(weights) for key, weights in start.initial_weights.items()},
        teacher=None if start.teacher is None else ray.put(start.teacher),
        objectives=facts.config.objectives,
        submission=submission,
        driver=ProcessIdentity.current(),
        last_checkpoint=last_checkpoint,
        sharing=_sharing(facts.config, data.dataset.fingerprint),
    )


def _sharing(config: SearchConfig, fingerprint: str) -> FeatureSharing | None:
    """Where trials share features of frozen stages; None where `search.reuse` is off."""
    if config.reuse == "off":
        return None
    limit = None if config.reuse_gib is None else int(config.reuse_gib * GIB)
    return FeatureSharing(fingerprint, config.reuse_dtype, config.reuse == "on", config.reuse_folder, limit)
