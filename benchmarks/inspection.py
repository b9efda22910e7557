"""What `data inspect` costs beside decoding alone, and how long it takes where everything is remembered.

    python -m benchmarks.inspection FOLDER [--times 20] [--rounds 5] [--json FILE]

Every image of FOLDER is there so many times, as links in two class folders. A pass reads and decodes all of them with
training's decoder on all cores: once alone, once with everything that an inspection learns of an image. The two take
turns; the median of each and of their ratios is printed. Then `resnet-dist data inspect` runs twice, as a command.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from data_pipeline.config import DataConfig
from data_pipeline.inspection.facts_cache import FactsCache
from data_pipeline.listing.image_names import EXTENSIONS
from data_pipeline.listing.index import list_images
from data_pipeline.listing.samples import sample_id_of
from data_pipeline.listing.scan import Readers, scan
from ray_jobs.data.prepare import decoder, training_probe
from ray_jobs.job.toml import check
from resnet_dist.runtime.image_file import image_header, image_kind


def linked(folder: Path, times: int, place: Path) -> int:
    """Make the ImageFolder; how many images it has."""
    paths = sorted(path for path in folder.rglob("*") if path.name.lower().encode().endswith(EXTENSIONS))
    for name in ("a", "b"):
        (place / name).mkdir(parents=True)
    for copy in range(times):
        for number, path in enumerate(paths):
            (place / "ab"[number % 2] / f"{copy:02d}-{path.name}").symlink_to(path.resolve())
    return times * len(paths)


def one_pass(root: Path, source: str, *, looks: bool) -> float:
    """Seconds of a pass over all images, nothing remembered."""
    data = DataConfig(root=str(root))
    job = check({"data": {"root": str(root), "source": source}})
    listing, _ = list_images(data)
    cache = FactsCache(None, partial(image_kind, max_pixels=data.max_pixels))
    ids = [sample_id_of(image.relative_path) for image in listing.images]
    readers = Readers(
        decode=decoder(job),
        header=partial(image_header, max_pixels=data.max_pixels),
        probe=training_probe(job),
        see=(lambda row, content, pixels: cache.see(ids[row], content, pixels)) if looks else None,
    )
    began = time.perf_counter()
    scan(os.fsencode(root), listing.images, readers, None, os.cpu_count() or 1)
    return time.perf_counter() - began


def command(root: Path, place: Path) -> float:
    """Seconds of `resnet-dist data inspect`."""
    words = [sys.executable, "-m", "ray_jobs", "data", "inspect", str(root)]
    words += ["--storage.root", str(place / "storage"), "--data.cache-dir", str(place / "cache")]
    began = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        figures["images"] = linked(args.folder, args.times, place / "images")
        for source in ("reference", "dali"):
            one_pass(place / "images", source, looks=True)  # files come into the page cache, decoders are loaded
            alone, looking = list[float](), list[float]()
            for _ in range(args.rounds):
                alone.append(one_pass(place / "images", source, looks=False))
                looking.append(one_pass(place / "images", source, looks=True))
            ratios = [more / less for more, less in zip(looking, alone, strict=True)]
            figures[f"{source}: decoding alone, s"] = statistics.median(alone)
            figures[f"{source}: inspecting, s"] = statistics.median(looking)
            figures[f"{source}: ratio"] = statistics.median(ratios)
            figures[f"{source}: least ratio"], figures[f"{source}: largest ratio"] = min(ratios), max(ratios)
        figures["first command, s"] = command(place / "images", place)
        again = [command(place / "images", place) for _ in range(args.rounds)]
        figures["second command, s"] = statistics.median(again)
    for name, value in figures.items():
        print(f"{name}: {value:.2f}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
