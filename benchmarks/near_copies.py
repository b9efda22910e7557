"""How many planted copies `data inspect` finds, and how many images it takes for copies that are none.

    python -m benchmarks.near_copies FOLDER [FOLDER ...] [--every 2] [--fixture PHOTOGRAPH] [--seed 0]
        [--json FILE]

Of each FOLDER's photographs (every second one with --every 2) one copy of each kind is planted: re-exposed (gain,
offset and gamma), shifted by up to 2 % of each side, saved again as JPEG of quality 30 to 70, mirrored. Found is a copy
in one cluster with its original. Wrongly clustered is a photograph that shares a cluster with one that it shared none
with before copies were planted; a copy counts like its original. Beside it stand the distances of photographs with
different labels, by this hash and by one from which nothing of what the set has in common was taken away.

With --fixture the images are parts on a fixture: 85 % of the PHOTOGRAPH and 15 % of each image of FOLDER; of those only
the distances are shown.
"""

import argparse
import io
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_pipeline.inspection.copies import Copies, Photographs, find_copies
from data_pipeline.inspection.hashing import BITS, Reference, hashes_of, reference_of
from data_pipeline.inspection.thumbnails import look_at
from data_pipeline.listing.image_names import EXTENSIONS
from data_pipeline.listing.samples import key_of
from resnet_dist.runtime.image_file import decode_rgb

KINDS = ("re-exposed", "shifted", "saved again", "mirrored")
LARGEST_SHIFT = 0.02


@dataclass(frozen=True)
class Photograph:
    """One image of a folder."""

    name: str
    label: str
    pixels: NDArray[np.uint8]


def photographs(folder: Path, every: int) -> list[Photograph]:
    """In the order of their names; those of one folder have one label, those beside the folders each its own."""
    decode = partial(decode_rgb, bit_depth=None, max_pixels=10**8)
    paths = sorted(path for path in folder.rglob("*") if path.name.lower().encode().endswith(EXTENSIONS))
    found: list[Photograph] = []
    for path in paths[1::every] if every > 1 else paths:
        inside = path.relative_to(folder)
        found.append(
            Photograph(str(inside), str(inside.parent if len(inside.parts) > 1 else inside), decode(path.read_bytes()))
        )
    return found


def copied(pixels: NDArray[np.uint8], kind: str, random: np.random.Generator) -> NDArray[np.uint8]:
    """A copy of a kind."""
    if kind == "mirrored":
        return np.ascontiguousarray(pixels[:, ::-1])
    if kind == "shifted":
        height, width, _ = pixels.shape
        down, right = (int(np.rint(random.uniform(-LARGEST_SHIFT, LARGEST_SHIFT) * side)) for side in (height, width))
        rows = np.clip(np.arange(height) - down, 0, height - 1)
        columns = np.clip(np.arange(width) - right, 0, width - 1)
        return np.ascontiguousarray(pixels[rows][:, columns])
    if kind == "re-exposed":
        gain, offset, gamma = random.uniform(0.75, 1.33), random.uniform(-12, 12), random.uniform(0.75, 1.33)
        return np.clip(255 * (pixels / 255) ** gamma * gain + offset, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=int(random.integers(30, 71)))
    return decode_rgb(file.getvalue(), bit_depth=None, max_pixels=10**8)


def on_fixture(originals: list[Photograph], common: Path) -> list[Photograph]:
    """Each as a mark on the same picture, and each with a label of its own."""
    picture = Image.open(common).convert("RGB")
    found: list[Photograph] = []
    for each in originals:
        height, width, _ = each.pixels.shape
        base = np.asarray(picture.resize((width, height)), np.float32)
        marked = np.clip(0.85 * base + 0.15 * each.pixels, 0, 255).astype(np.uint8)
        found.append(Photograph(each.name, each.name, marked))
    return found


def distances(originals: list[Photograph], thumbnails: NDArray[np.uint16]) -> dict[str, str]:
    """Median and nearest hundredth of the distances of photographs with different labels, by both hashes."""
    labels = np.array([each.label for each in originals])
    first, second = np.triu_indices(len(originals), 1)
    different = labels[first] != labels[second]
    nothing = Reference(np.zeros(BITS), np.zeros((0, BITS)), 0)
    found: dict[str, str] = {}
    for name, reference in (("plain hash", nothing), ("this hash", reference_of(thumbnails))):
        hashes = hashes_of(thumbnails, reference)
        apart = np.bitwise_count(hashes[first[different]] ^ hashes[second[different]]).sum(axis=1)
        found[f"{name}: median, nearest 1 %"] = f"{np.median(apart):.0f}, {np.quantile(apart, 0.01):.0f}"
    return found


def judged(folder: Path, every: int, seed: int) -> dict[str, object]:
    """The figures of one folder."""
    originals = photographs(folder, every)
    random = np.random.default_rng(seed)
    thumbnails = {"original": np.stack([look_at(each.pixels).thumbnail for each in originals])}
    for kind in KINDS:
        thumbnails[kind] = np.stack([look_at(copied(each.pixels, kind, random)).thumbnail for each in originals])
    before = copies_among(originals, [thumbnails["original"]])
    figures: dict[str, object] = {"folder": folder.name, "images": len(originals), "radius": before.radius.bits}
    figures |= distances(originals, thumbnails["original"])
    figures["clusters before"] = len(before.clusters)
    wrong = 0
    for kind in KINDS:
        found = copies_among(originals, [thumbnails["original"], thumbnails[kind]])
        own, copies = np.split(found.cluster_of, 2)
        figures[kind] = float(np.mean((own == copies) & (own >= 0)))
        wrong = max(wrong, wrongly_clustered(before.cluster_of, own, copies))
        figures[f"radius with {kind}"] = found.radius.bits
    figures["wrongly clustered of 1,000, worst kind"] = 1000 * wrong / (2 * len(originals))
    return figures


def of_fixture(folder: Path, every: int, common: Path) -> dict[str, object]:
    """The figures of parts on a fixture."""
    parts = on_fixture(photographs(folder, every), common)
    thumbnails = np.stack([look_at(each.pixels).thumbnail for each in parts])
    return {"folder": f"{folder.name} on a fixture", "images": len(parts), **distances(parts, thumbnails)}


def copies_among(originals: list[Photograph], sets: list[NDArray[np.uint16]]) -> Copies:
    """Of the originals and, behind them, of their copies."""
    names = {label: at for at, label in enumerate(sorted({each.label for each in originals}))}
    labels = np.array([names[each.label] for each in originals] * len(sets), np.int64)
    ids = [f"{at}/{each.name}" for at in range(len(sets)) for each in originals]
    keys = np.array([key_of(each) for each in ids], np.uint64)
    return find_copies(Photographs(np.concatenate(sets), ids, labels, keys))


def wrongly_clustered(before: NDArray[np.int64], own: NDArray[np.int64], copies: NDArray[np.int64]) -> int:
    """Images, copies too, that are now in one cluster with an original that was in another one, or alone."""
    alone = before.max(initial=-1) + 1
    origin = np.where(before >= 0, before, alone + np.arange(len(before)))
    wrong = 0
    for cluster in np.unique(own[own >= 0]).tolist() + np.setdiff1d(copies[copies >= 0], own).tolist():
        origins = np.concatenate([origin[own == cluster], origin[copies == cluster]])
        if len(np.unique(origins)) > 1:
            wrong += len(origins)
    return wrong


def main() -> None:
    """Plant, look, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--fixture", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = [
        judged(folder, args.every, args.seed) if args.fixture is None else of_fixture(folder, args.every, args.fixture)
        for folder in args.folders
    ]
    for figures in found:
        print(*(f"{name}: {value}" for name, value in figures.items()), sep="\n  ")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
