"""How fast images reach the model: our source against DALI's own pipeline and torchvision's loader.

All three decode the same files, cut a random window, resize it to 224 pixels, mirror half of them and normalise to
float32. `threads` is DALI's thread count and the number of torchvision's worker processes. Repeats alternate, so that a
busy moment of the machine meets all three; a ratio is the median over the repeats of our speed over theirs.

    python benchmarks/loader.py DIR [--threads 2] [--batch 64] [--images 2000] [--repeats 3] [--json FILE]

DIR is an ImageFolder or a flat folder of JPEGs; few files are repeated to fill an epoch.
"""

# DALI's operators are generated and carry no useful types.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportPrivateImportUsage=false
# pyright: reportCallIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.plugin.base_iterator import LastBatchPolicy
from nvidia.dali.plugin.pytorch import DALIGenericIterator
from torchvision import datasets, transforms

from data_pipeline.config import AugmentationConfig, DataConfig
from data_pipeline.listing.samples import Samples, key_of, sample_id_of
from data_pipeline.sources.build import training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from resnet_dist.runtime.image_file import decode_rgb, image_header

TARGETS = {"DALI readers.file": 0.95, "torchvision": 1.6}
"""Least ratio expected on two cores."""
MAX_PIXELS = 10**8
WARM_UP_BATCHES = 10
DATA, AUGMENTATION = DataConfig(), AugmentationConfig()

Loader = Callable[[], Iterator[int]]
"""Starts an epoch and yields the number of images of each batch that has reached torch."""


def image_folder(folder: Path, scratch: Path, images: int) -> None:
    """Make `scratch` an ImageFolder of symlinks, repeated until an epoch has `images`: none of them ends in between."""
    classes = [path for path in folder.iterdir() if path.is_dir()] or [folder]
    files = [path for each in classes for path in each.iterdir() if path.suffix.lower() in (".jpg", ".jpeg")]
    if not files:
        raise SystemExit(f"{folder} holds no .jpg or .jpeg, nor do its folders")
    for number in range(max(images, len(files))):
        path = files[number % len(files)]
        link = scratch / path.parent.name / f"{number}-{path.name}"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(path.resolve())


def samples_of(root: Path) -> Samples:
    """The JPEGs of an ImageFolder, without a scan's care: this is a benchmark."""
    classes = sorted(path.name for path in root.iterdir() if path.is_dir())
    paths = sorted(path for name in classes for path in (root / name).iterdir())
    ids = [sample_id_of(os.fsencode(path.relative_to(root))) for path in paths]
    headers = [image_header(path.read_bytes(), max_pixels=MAX_PIXELS) for path in paths]
    return Samples(
        root=str(root),
        classes=tuple(classes),
        sample_ids=tuple(ids),
        keys=np.array([key_of(sample_id) for sample_id in ids], dtype=np.uint64),
        labels=np.array([classes.index(path.parent.name) for path in paths], dtype=np.int64),
        sizes=np.array([header[:2] for header in headers], dtype=np.int32),
        plain=np.array([header[2] for header in headers]),
        content=tuple("" for _ in ids),
    )


def ours(samples: Samples, batch: int, threads: int) -> Loader:
    """The source that training uses."""
    decode = partial(decode_rgb, bit_depth=None, max_pixels=MAX_PIXELS)
    source = training_source(SourceSpec(DATA, decode, AUGMENTATION, 0, threads), samples, batch, batch, RankShare())

    def batches() -> Iterator[int]:
        for step in source.epoch(0):
            for microbatch in step.microbatches:
                yield len(microbatch.images)

    return batches


def readers_file(root: Path, batch: int, threads: int) -> Loader:
    """DALI's own file reader and random crop, as its documentation trains ResNet-50."""

    @pipeline_def(batch_size=batch, num_threads=threads, device_id=None)
    def graph() -> tuple[object, object]:
        encoded, labels = fn.readers.file(
            file_root=str(root), random_shuffle=True, name="files", initial_fill=1024, prefetch_queue_depth=2
        )
        images = fn.decoders.image_random_crop(
            encoded,
            output_type=types.RGB,
            random_aspect_ratio=list(AUGMENTATION.crop_ratio),
            random_area=list(AUGMENTATION.crop_area),
        )
        images = fn.resize(images, size=[DATA.image_size] * 2, interp_type=types.INTERP_LINEAR, antialias=True)
        images = fn.crop_mirror_normalize(
            images,
            dtype=types.FLOAT,
            output_layout="HWC",
            mean=[255.0 * number for number in DATA.mean],
            std=[255.0 * number for number in DATA.std],
            mirror=fn.random.coin_flip(probability=0.5),
        )
        return images, labels

    iterator = DALIGenericIterator(
        [graph()], ["images", "labels"], reader_name="files", last_batch_policy=LastBatchPolicy.PARTIAL
    )

    def batches() -> Iterator[int]:
        for output in iterator:
            yield len(output[0]["images"])

    return batches


def torchvision_loader(root: Path, batch: int, threads: int) -> Loader:
    """ImageFolder, as torchvision's documentation trains ResNet-50."""
    view = transforms.Compose(
        [
            transforms.RandomResizedCrop(DATA.image_size, scale=AUGMENTATION.crop_area, ratio=AUGMENTATION.crop_ratio),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(DATA.mean, DATA.std),
        ]
    )
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(str(root), view),
        batch_size=batch,
        shuffle=True,
        num_workers=threads,
    )

    def batches() -> Iterator[int]:
        for images, _ in loader:
            yield len(images)

    return batches


def images_per_second(loader: Loader, images: int) -> float:
    """Of a loader that is started anew: the first batches fill its queues and are not counted.

    It stops before the next loader's turn, so that nothing loads ahead while another is measured.
    """
    batches = loader()
    for _ in islice(batches, WARM_UP_BATCHES):
        pass
    start, loaded = perf_counter(), 0
    while loaded < images:
        loaded += next(batches)
    return loaded / (perf_counter() - start)


def main() -> None:
    """Measure, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--images", type=int, default=2000, help="images that each measurement loads")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="rd-loader-") as scratch:
        root = Path(scratch)
        image_folder(args.folder, root, args.images + (WARM_UP_BATCHES + 1) * args.batch)
        samples = samples_of(root)
        makers: dict[str, Callable[[], Loader]] = {
            "ours": lambda: ours(samples, args.batch, args.threads),
            "DALI readers.file": lambda: readers_file(root, args.batch, args.threads),
            "torchvision": lambda: torchvision_loader(root, args.batch, args.threads),
        }
        speeds: dict[str, list[float]] = {name: [] for name in makers}
        for turn in range(args.repeats):
            for name, make in makers.items():
                speeds[name].append(images_per_second(make(), args.images))
            print(f"repeat {turn}:", {name: round(values[-1], 1) for name, values in speeds.items()}, flush=True)
    ratios = {
        name: statistics.median(own / other for own, other in zip(speeds["ours"], speeds[name], strict=True))
        for name in TARGETS
    }
    for name, values in speeds.items():
        against = f"  ours is {ratios[name]:.2f}x (target {TARGETS[name]:.2f}x)" if name in TARGETS else ""
        print(f"{name:18} {statistics.median(values):8.1f} images/s{against}")
    if args.json:
        settings = {**vars(args), "folder": str(args.folder), "json": None}
        args.json.write_text(
            json.dumps({"settings": settings, "images_per_second": speeds, "ratios": ratios}, indent=2)
        )


if __name__ == "__main__":
    main()
