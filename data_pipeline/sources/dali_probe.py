"""Decodes files as DALI does in training, before one that it cannot decode costs a run.

One bad sample makes DALI abandon the whole batch and leaves the pipeline unusable, so a batch that fails is halved
and tried again on a new pipeline until the bad ones stand alone. Several damaged samples in one batch can crash DALI
2.4, and with it the process; so a file that is plainly not complete has a batch of its own.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateImportUsage=false, reportCallIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false
# DALI's operators are generated and carry no useful types.

import os
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
from nvidia.dali import Pipeline, fn, types
from PIL import Image

from data_pipeline.listing.completeness import is_complete
from data_pipeline.listing.scan import Show

_BATCH = 32
_BATCH_PIXELS = 2**26
"""Decoded, 192 MiB."""


def probe(images: list[bytes], show: Show | None = None) -> list[tuple[int, int] | str]:
    """For each encoded image its upright width and height, or why DALI's CPU decoder cannot read it.

    What is decoded is shown.
    """
    found: list[tuple[int, int] | str] = []
    pipeline: Any = None
    pending = list(_batches(images))[::-1]
    while pending:
        batch = pending.pop()
        pipeline = pipeline or _pipeline()
        try:
            pipeline.feed_input("encoded", [np.frombuffer(image, dtype=np.uint8) for image in batch])
            (decoded,) = pipeline.run()
            if show:
                for place in range(len(batch)):
                    show(len(found) + place, decoded.at(place))
            found += [(width, height) for height, width, _ in decoded.shape()]
        except RuntimeError as error:
            pipeline = None
            if len(batch) == 1:
                found.append(f"DALI cannot decode it: {reason_of(error)}")
            else:
                middle = len(batch) // 2
                pending += [batch[middle:], batch[:middle]]
    return found


def reason_of(error: RuntimeError) -> str:
    """What went wrong, without where in the graph."""
    _, _, reason = str(error).rpartition("encountered:")
    reason = reason.replace("Current pipeline object is no longer valid.", "")
    return " ".join(reason.split()).strip(" :")[:200] or "no reason given"


def _batches(images: list[bytes]) -> Iterator[list[bytes]]:
    """The images in batches that fit in memory once they are decoded; incomplete ones alone."""
    batch: list[bytes] = []
    pixels = 0
    for image in images:
        more = _BATCH_PIXELS if is_complete(image) is False else _pixels(image)
        if batch and (len(batch) == _BATCH or pixels + more > _BATCH_PIXELS):
            yield batch
            batch, pixels = [], 0
        batch.append(image)
        pixels += more
    if batch:
        yield batch


def _pixels(image: bytes) -> int:
    """As the file's header says; a batch's worth where that cannot be read."""
    try:
        with Image.open(BytesIO(image)) as header:
            return header.width * header.height
    except Exception:
        return _BATCH_PIXELS


def _pipeline() -> Any:
    pipeline = Pipeline(
        batch_size=_BATCH,
        num_threads=len(os.sched_getaffinity(0)),
        device_id=None,
        prefetch_queue_depth=1,
        exec_async=False,
        exec_pipelined=False,
    )
    with pipeline:
        encoded = fn.external_source(name="encoded", dtype=types.UINT8, ndim=1)
        pipeline.set_outputs(fn.decoders.image(encoded, output_type=types.RGB))
    pipeline.build()
    return pipeline
