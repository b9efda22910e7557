"""Finds the files that DALI cannot decode, before one of them costs a run.

One bad sample makes DALI abandon the whole batch and leaves the pipeline unusable, so a batch that fails is halved
and tried again on a new pipeline until the bad ones stand alone.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateImportUsage=false, reportCallIssue=false, reportArgumentType=false
# DALI's operators are generated and carry no useful types.

import os
from typing import Any

import numpy as np
from nvidia.dali import Pipeline, fn, types

_BATCH = 32


def probe(images: list[bytes]) -> list[str | None]:
    """For each encoded image None, or why DALI's CPU decoder cannot read it."""
    found: list[str | None] = []
    pipeline: Any = None
    pending = [images[first : first + _BATCH] for first in range(0, len(images), _BATCH)][::-1]
    while pending:
        batch = pending.pop()
        pipeline = pipeline or _pipeline()
        try:
            pipeline.feed_input("encoded", [np.frombuffer(image, dtype=np.uint8) for image in batch])
            pipeline.run()
            found += [None] * len(batch)
        except RuntimeError as error:
            pipeline = None
            if len(batch) == 1:
                found.append(f"DALI cannot decode it: {_reason(error)}")
            else:
                middle = len(batch) // 2
                pending += [batch[middle:], batch[:middle]]
    return found


def _pipeline() -> Any:
    pipeline = Pipeline(
        batch_size=_BATCH,
        num_threads=os.cpu_count() or 1,
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


def _reason(error: RuntimeError) -> str:
    """The line of DALI's long report that says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "rror" in line and "operator" not in line]
    return (telling or lines or ["no reason given"])[0][:200]
