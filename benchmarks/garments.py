"""A small part of Fashion-MNIST, for scripts that need photographs harder than digits."""

import os
import tempfile
from pathlib import Path

from data_pipeline.example_data import write_fashion_mnist


def write_garments(folder: Path, counts: dict[str, int]) -> None:
    """An ImageFolder with the first images of each class in each split: so many as `counts` says."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="whole-", dir=folder.parent) as name:
        whole = Path(name) / "fashion-mnist"
        write_fashion_mnist(whole)
        for split, count in counts.items():
            for source in sorted((whole / split).iterdir()):
                (folder / split / source.name).mkdir(parents=True)
                for image in sorted(source.iterdir())[:count]:
                    os.link(image, folder / split / source.name / image.name)
