"""A run that is complete and has learnt nothing, made by the code that makes runs, without Ray and in a second."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cluster.storage.lease import take
from cluster.storage.process_identity import ProcessIdentity
from data_pipeline.splits.assign import write_split_csv
from ray_jobs.data.prepare import prepare_data
from ray_jobs.job.toml import check
from ray_jobs.run.directory import RunDirectory
from resnet_dist.checkpoint.contents import Snapshot
from resnet_dist.checkpoint.progress import Microbatches, Progress
from resnet_dist.checkpoint.writing import write_checkpoint
from resnet_dist.model.model_json import describe
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure

CLASSES = ("crack", "good", "hole")
SPLITS = {"train": 6, "val": 20, "test": 4}
"""Images of each class."""


def untrained_run(folder: Path, name: str, epochs: int = 10) -> Path:
    """The storage root of the run, below `folder`: a ResNet-18 at 32 px, which answers noise by chance.

    One of its `epochs` is done.
    """
    root = folder / "images"
    generator = np.random.default_rng(0)
    for split, count in SPLITS.items():
        for label in CLASSES:
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                # Of many contrasts, so that the network is sure of some and not of others.
                values = generator.normal(128, 10 + 10 * number, (24, 24, 3)) + 40 * generator.normal(0, 1, 3)
                image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
                image.save(root / split / label / f"{number:02d}.png")
    storage = folder / "storage"
    sections: dict[str, Any] = {
        "name": name,
        "data": {"root": str(root), "image_size": 32, "source": "reference"},
        "model": {"arch": "resnet18", "weights": "none"},
        "storage": {"root": str(storage)},
        "training": {"epochs": epochs},
    }
    job = check(sections)
    data = prepare_data(job)
    run = RunDirectory.named(str(storage), name)
    with take(run.store, submission="s", driver=ProcessIdentity.current(), ttl_s=30.0) as lease:
        run.write_records(job, data.summary(), write_split_csv(data.split_rows()))
        model = build_model(Structure("resnet18"), len(CLASSES), 0.0, 0)
        weights = model.state_dict()
        progress = Progress(step=1, epoch=1, step_in_epoch=0, microbatches=Microbatches(4, 0))
        snapshot = Snapshot(describe(model), weights, {}, progress)
        write_checkpoint(run.store, snapshot, lease.claim, lease.confirm, run.records.origin())
    return storage
