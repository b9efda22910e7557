"""The code of a checkout, chosen, bounded and named by its content, as it goes to a running Ray."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import SubmissionError

_PACKAGES = ("cluster", "data_pipeline", "ray_jobs", "resnet_dist")
_BESIDES = ("k8s", "pyproject.toml")
_MOST_FILES = 5000
_MOST_BYTES = 32 * 1024**2
"""Ray's server takes 100 MiB; this program's code is a few."""


@dataclass(frozen=True)
class WorkingTree:
    """The files that are sent, by their path below the checkout with "/", and what they contain."""

    files: dict[str, bytes]

    @classmethod
    def read(cls, root: Path) -> "WorkingTree":
        """The packages of a checkout and what they need, without hidden files, caches and anything beside them.

        Raises SubmissionError where this is no checkout, where a file cannot be sent, or where they are too large.
        """
        missing = [name for name in _PACKAGES if not (root / name).is_dir()]
        if missing:
            raise SubmissionError(
                f"{root} is no checkout of resnet-dist: it has no folder {', '.join(missing)}; name the folder that "
                "holds them"
            )
        paths: list[tuple[str, int]] = []
        for name in (*_PACKAGES, *_BESIDES):
            if (root / name).exists():
                paths += _below(root, name)
        _refuse_too_large(root, paths)
        try:
            return cls({path: (root / path).read_bytes() for path, _ in sorted(paths)})
        except OSError as error:
            raise SubmissionError(f"{root}: {error}; make it readable, or move it out of the checkout") from error

    @property
    def digest(self) -> str:
        """sha256, in hex, of all paths and contents."""
        whole = hashlib.sha256()
        for path, content in sorted(self.files.items()):
            for part in (path.encode("utf-8", "surrogateescape"), content):
                whole.update(len(part).to_bytes(8, "big") + part)
        return whole.hexdigest()

    def write(self, folder: Path) -> None:
        """Make a copy of the files."""
        for path, content in self.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def _below(root: Path, path: str) -> list[tuple[str, int]]:
    """A file, or all files below a folder, with their sizes in bytes."""
    name, place = path.rpartition("/")[2], root / path
    if name.startswith(".") or name == "__pycache__" or name.endswith(".pyc"):
        return []
    if place.is_symlink():
        raise SubmissionError(f"{place} is a link, and what it points to is not sent; put a copy in its place")
    if place.is_dir():
        return [found for child in sorted(place.iterdir()) for found in _below(root, f"{path}/{child.name}")]
    if not place.is_file():
        raise SubmissionError(f"{place} is no file that could be sent; move it out of the checkout")
    return [(path, place.stat().st_size)]


def _refuse_too_large(root: Path, paths: list[tuple[str, int]]) -> None:
    total = sum(size for _, size in paths)
    if total > _MOST_BYTES:
        largest = sorted(paths, key=lambda each: -each[1])[:3]
        shown = ", ".join(f"{path} ({size / 1024**2:.1f} MiB)" for path, size in largest)
        raise SubmissionError(
            f"the code in {root} takes {total / 1024**2:.1f} MiB, of at most {_MOST_BYTES // 1024**2}; the largest: "
            f"{shown}; move what is no code out of the packages"
        )
    if len(paths) > _MOST_FILES:
        counts: dict[str, int] = {}
        for path, _ in paths:
            folder = path.rpartition("/")[0]
            counts[folder] = counts.get(folder, 0) + 1
        fullest = max(counts, key=lambda folder: counts[folder])
        raise SubmissionError(
            f"the code in {root} has {len(paths)} files, of at most {_MOST_FILES}; the fullest folder: {fullest} "
            f"({counts[fullest]}); move what is no code out of the packages"
        )
