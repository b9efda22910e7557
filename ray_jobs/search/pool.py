"""The slots of a search as they start, told what is the same for all trials."""

# Ray's tasks carry no types.
# pyright: reportUnknownMemberType=false

from collections.abc import Callable

import ray

from cluster.storage.process_identity import ProcessIdentity
from data_pipeline.splits.assign import write_split_csv
from ray_jobs.data.node_images import NodeImages
from ray_jobs.search.actors import Actor
from ray_jobs.search.config import SearchConfig
from ray_jobs.search.prepare import SearchStart
from ray_jobs.search.records import SearchDirectory
from ray_jobs.search.supervisors import Supervisors
from ray_jobs.search.trial_worker import Slot
from ray_jobs.training.feature_sharing import GIB, FeatureSharing


def start_pool(
    start: SearchStart,
    directory: SearchDirectory,
    dispatcher: Actor,
    submission: str,
    me: ProcessIdentity,
    say: Callable[[str], None],
) -> Supervisors:
    """A supervisor for each slot."""
    facts, data = start.facts, start.data
    initial_weights = {key: ray.put(weights) for key, weights in start.initial_weights.items()}
    train, val = data.split("train"), data.split("val")
    slot = Slot(
        dispatcher=dispatcher,
        search_uri=directory.uri,
        train=train,
        val=val,
        images=NodeImages.of(facts.job.data, train, val),
        plan=start.plan,
        dataset=data.summary(),
        split_csv=write_split_csv(data.split_rows()),
        initial_weights=initial_weights,
        objectives=facts.config.objectives,
        submission=submission,
        driver=me,
        sharing=sharing_of(facts.config, data.dataset.fingerprint),
    )
    return Supervisors(ray.put(slot), start.plan, start.slots, dispatcher, say)


def sharing_of(config: SearchConfig, fingerprint: str) -> FeatureSharing | None:
    """Where trials share features of frozen stages, None where they are told not to."""
    if config.reuse == "off":
        return None
    limit = None if config.reuse_gib is None else int(config.reuse_gib * GIB)
    return FeatureSharing(fingerprint, config.reuse_dtype, config.reuse == "on", config.reuse_folder, limit)
