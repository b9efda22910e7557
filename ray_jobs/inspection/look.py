"""One look at every image of a folder: on this machine's cores, or as tasks of the Ray at `cluster.address`."""

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from cluster.session.results import results
from cluster.session.session import ray_session
from data_pipeline.config import DataConfig
from data_pipeline.inspection.facts_cache import FactsCache, Kind
from data_pipeline.listing.image_folder import ListedImage, Listing
from data_pipeline.listing.index import Dataset, index_folder, list_images, probe_name
from data_pipeline.listing.samples import sample_id_of
from data_pipeline.listing.scan import Progress, Readers, See, scan
from data_pipeline.listing.scan_cache import ReadableFile, ScanCache
from ray_jobs.data.prepare import decoder, training_probe
from ray_jobs.job.config import JobConfig
from resnet_dist.runtime.image_file import image_header, image_kind

_TASK_IMAGES = 512
"""Of a task: some seconds of work."""

Part = list[tuple[ReadableFile | str, NDArray[np.void] | None]]
"""Of each image of a task what a scan learnt of it, and its facts where it can be read."""


def looked_at(
    job: JobConfig, data: DataConfig, progress: Progress, *, reread: bool = False
) -> tuple[Dataset, FactsCache]:
    """The dataset, and the facts of all its images by sample id.

    `data`: the job's, with a root on this machine. What was decoded a training need not decode again. With
    `cluster.address` images are looked at by tasks, on nodes that see the folder under the same path; a root that is a
    URI by this machine. Raises DataError where the folder is no data set.
    """
    probe = training_probe(job)
    listing, _ = list_images(data)
    root, name = os.fsencode(listing.root), probe_name(probe)
    cache = FactsCache.of(data, root, name, _kind(data), reread=reread)
    if job.cluster.address is not None and "://" not in job.data.root:
        with ray_session(job.cluster):
            _look_by_tasks(job, listing, cache, progress)
    ids = [sample_id_of(image.relative_path) for image in listing.images]
    readers = _readers(job, lambda row, content, pixels: cache.see(ids[row], content, pixels))
    dataset = index_folder(data, readers, progress, memory=cache)
    if cache.seen and (scanned := ScanCache.of(data, root, name)) is not None:
        scanned.save({**scanned.load(), **cache.known})
    return dataset, cache


def look_at_part(job: JobConfig, root: bytes, images: Sequence[ListedImage]) -> Part:
    """What a task does: some of a folder's images, with one thread."""
    cache = FactsCache(None, _kind(job.data))
    ids = [sample_id_of(image.relative_path) for image in images]
    readers = _readers(job, lambda row, content, pixels: cache.see(ids[row], content, pixels))
    return [
        (found, None if isinstance(found, str) else cache.facts[sample_id])
        for found, sample_id in zip(scan(root, images, readers), ids, strict=True)
    ]


def _look_by_tasks(job: JobConfig, listing: Listing, cache: FactsCache, progress: Progress) -> None:
    """Fill the cache with the images that it does not know; those that cannot be read are left to the driver."""
    remembered = cache.load()
    names = {(sample_id_of(image.relative_path), image.size, image.mtime_ns): image for image in listing.images}
    unread = [image for name, image in names.items() if name not in remembered]
    parts = [unread[start : start + _TASK_IMAGES] for start in range(0, len(unread), _TASK_IMAGES)]
    remote = ray.remote(look_at_part).options(num_cpus=1, max_retries=3)
    root = os.fsencode(listing.root)
    pending: dict[Any, list[ListedImage]] = {remote.remote(job, root, part): part for part in parts}
    done = 0
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
    cache.save({**cache.known, **files})


def _kind(data: DataConfig) -> Kind:
    return partial(image_kind, max_pixels=data.max_pixels)


def _readers(job: JobConfig, see: See) -> Readers:
    header = partial(image_header, max_pixels=job.data.max_pixels)
    return Readers(decoder(job), header, training_probe(job), see)
