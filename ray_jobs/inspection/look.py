"""One look at every image of a folder: on this machine's cores, or as tasks of the Ray at `cluster.address`."""

import os
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from data_pipeline.config import DataConfig
from data_pipeline.inspection.facts_cache import FactsCache, Kind
from data_pipeline.listing.image_folder import ListedImage
from data_pipeline.listing.index import Dataset, index_folder, list_images, probe_name
from data_pipeline.listing.samples import sample_id_of
from data_pipeline.listing.scan import Progress, Readers, See, scan
from data_pipeline.listing.scan_cache import ReadableFile, ScanCache
from ray_jobs.data.prepare import decoder, training_probe
from ray_jobs.job.config import JobConfig
from resnet_dist.runtime.image_file import image_header, image_kind

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
    listed = list_images(data)
    listing, _ = listed
    root, name = os.fsencode(listing.root), probe_name(probe)
    cache = FactsCache.of(data, root, name, _kind(data), reread=reread)
    if job.cluster.address is not None and "://" not in job.data.root:
        from ray_jobs.inspection.look_by_tasks import look_by_tasks  # noqa: PLC0415 - Ray loads in half a second

        look_by_tasks(job, listing, cache, progress)
    ids = [sample_id_of(image.relative_path) for image in listing.images]
    readers = _readers(job, lambda row, content, pixels: cache.see(ids[row], content, pixels))
    dataset = index_folder(data, readers, progress, memory=cache, listed=listed)
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


def _kind(data: DataConfig) -> Kind:
    return partial(image_kind, max_pixels=data.max_pixels)


def _readers(job: JobConfig, see: See) -> Readers:
    header = partial(image_header, max_pixels=job.data.max_pixels)
    return Readers(decoder(job), header, training_probe(job), see)
