"""The slots of a search as they run: started, told what is the same for all trials, and ended."""

# Ray's tasks carry no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from cluster.processes import ProcessIdentity
from data_pipeline.splits import write_split_csv
from ray_jobs.feature_sharing import GIB, FeatureSharing
from ray_jobs.search.actors import Actor, ask
from ray_jobs.search.config import SearchConfig
from ray_jobs.search.records import SearchDirectory
from ray_jobs.search.serving import Slot
from ray_jobs.search.slots import keep_serving
from ray_jobs.search.start import SearchStart

_ENDING_S = 20.0


def start_pool(
    start: SearchStart, directory: SearchDirectory, desk: Actor, submission: str, me: ProcessIdentity
) -> list[Any]:
    """A supervisor for each slot, as running tasks of Ray."""
    facts, data = start.facts, start.data
    first = {key: ray.put(weights) for key, weights in start.first.items()}
    slot = Slot(
        number=0,
        desk=desk,
        search_uri=directory.uri,
        train=data.split("train"),
        val=data.split("val"),
        plan=start.plan,
        dataset=data.summary(),
        split_csv=write_split_csv(data.split_rows()),
        first=first,
        objectives=facts.config.objectives,
        submission=submission,
        driver=me,
        sharing=sharing_of(facts.config, data.dataset.fingerprint),
    )
    shared = ray.put(slot)
    task: Any = ray.remote(keep_serving).options(num_cpus=0, max_retries=0)
    return [task.remote(shared, number) for number in range(start.slots)]


def sharing_of(config: SearchConfig, fingerprint: str) -> FeatureSharing | None:
    """Where trials share features of frozen stages, None where they are told not to."""
    if config.reuse == "off":
        return None
    limit = None if config.reuse_gib is None else int(config.reuse_gib * GIB)
    return FeatureSharing(fingerprint, config.reuse_dtype, config.reuse == "on", config.reuse_folder, limit)


def end_pool(supervisors: list[Any], desk: Actor) -> None:
    """Let workers store what they have, and end what does not end by itself."""
    with suppress(RayError):
        ask(desk.close.remote())
    _, alive = ray.wait(supervisors, num_returns=len(supervisors), timeout=_ENDING_S)
    for supervisor in alive:
        ray.cancel(supervisor, force=True)
    if alive:
        with suppress(RayError):
            ray.wait(alive, num_returns=len(alive), timeout=_ENDING_S)
