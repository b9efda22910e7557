"""One look at every image of a folder by tasks of the Ray at `cluster.address`, on whatever node has a core free."""

import os
from collections.abc import Sequence
from typing import Any

import ray

from cluster.session.results import results
from cluster.session.session import ray_session
from data_pipeline.inspection.facts_cache import FactsCache
from data_pipeline.listing.image_folder import ListedImage, Listing
from data_pipeline.listing.samples import sample_id_of
from data_pipeline.listing.scan import Progress
from data_pipeline.listing.scan_cache import ReadableFile
from ray_jobs.inspection.look import Part, look_at_part
from ray_jobs.job.config import JobConfig

_TASK_IMAGES = 512
"""Of a task: some seconds of work."""


def look_by_tasks(job: JobConfig, listing: Listing, cache: FactsCache, progress: Progress) -> None:
    """Fill the cache with the images that it does not know; those that cannot be read are left to the driver."""
    remembered = cache.load()
    names = {(sample_id_of(image.relative_path), image.size, image.mtime_ns): image for image in listing.images}
    unread = [image for name, image in names.items() if name not in remembered]
    parts = [unread[start : start + _TASK_IMAGES] for start in range(0, len(unread), _TASK_IMAGES)]
    remote = ray.remote(look_at_part).options(num_cpus=1, max_retries=3)
    root = os.fsencode(listing.root)
    done = 0
    with ray_session(job.cluster):
        pending: dict[Any, list[ListedImage]] = {remote.remote(job, root, part): part for part in parts}
        while pending:
            ready: list[Any] = ray.wait(list(pending), num_returns=1)[0]  # pyright: ignore[reportUnknownVariableType]
            part = pending.pop(ready[0])
            (found,) = results(ready)
            _keep(part, found, cache)
            done += len(part)
            progress(done, len(unread))


def _keep(part: Sequence[ListedImage], found: Part, cache: FactsCache) -> None:
    files: dict[tuple[str, int, int], ReadableFile] = {}
    for image, (file, facts) in zip(part, found, strict=True):
        if isinstance(file, ReadableFile) and facts is not None:
            sample_id = sample_id_of(image.relative_path)
            cache.facts[sample_id] = facts
            cache.seen += 1
            files[sample_id, image.size, image.mtime_ns] = file
    cache.add(files)
