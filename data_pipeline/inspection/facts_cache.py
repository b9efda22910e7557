"""The facts of a folder's images, remembered between starts: in parts, so that an interrupted inspection goes on."""

import hashlib
import io
import json
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from data_pipeline.config import DataConfig
from data_pipeline.inspection.facts import FACTS, Kind, facts_of
from data_pipeline.listing.cache_folder import cache_folder, write_cached
from data_pipeline.listing.samples import sample_id_of
from data_pipeline.listing.scan_cache import ReadableFile, Remembered

_VERSION = 1
_PART = re.compile(r"[0-9]{8}-[0-9a-f]{8}\.npz")
_ROWS = TypeAdapter(list[tuple[str, int, int, str, int, int, bool]])

Name = tuple[str, int, int]
"""Sample id, size in bytes, modification time in ns."""


class FactsCache:
    """What a scan remembers (`data_pipeline.listing.scan.Memory`), and the facts of every image that it remembers.

    A folder of parts, each an .npz of the images that one `save` added. What is missing or damaged is read again.
    """

    def __init__(self, folder: Path | None, kind: Kind, *, reread: bool = False) -> None:
        """`folder`: None remembers nothing between starts. `reread`: believe nothing that was remembered."""
        self.facts: dict[str, NDArray[np.void]] = {}
        """[1] of `FACTS` by sample id: of the images that were remembered or seen."""
        self.seen = 0
        """How often an image was seen since the start: once where it was decoded, twice where that was corrected."""
        self.known: Remembered = {}
        """Readable images: those of the last scan that read any, else all that are remembered."""
        self._folder = folder
        self._kind = kind
        self._reread = reread
        self._stored: dict[str, tuple[Name, ReadableFile]] = {}

    @classmethod
    def of(cls, data: DataConfig, root: bytes, probe_name: str, kind: Kind, *, reread: bool = False) -> "FactsCache":
        """The cache of a folder under the settings that decide what its images are."""
        folder = cache_folder(data)
        decided_by = [
            "inspection",
            _VERSION,
            FACTS.descr,
            sample_id_of(root),
            data.bit_depth,
            data.max_pixels,
            probe_name,
        ]
        digest = hashlib.blake2b(json.dumps(decided_by).encode(), digest_size=16).hexdigest()
        return cls(None if folder is None else folder / "inspection" / digest, kind, reread=reread)

    def see(self, sample_id: str, data: bytes, pixels: NDArray[np.uint8]) -> None:
        """Learn the facts of an image."""
        self.facts[sample_id] = facts_of(data, pixels, self._kind)
        self.seen += 1

    def table(self, sample_ids: Sequence[str]) -> NDArray[np.void]:
        """[N] of `FACTS`, of images that were remembered or seen."""
        return np.frombuffer(b"".join(self.facts[sample_id].tobytes() for sample_id in sample_ids), FACTS)

    def load(self) -> Remembered:
        """Of each image what was remembered last."""
        parts = self._parts()
        if self._reread:
            self._remove(parts)
            parts, self._reread = [], False
        rows = 0
        for part in parts:
            for name, file, facts in _read(part):
                self._remember(name, file, facts)
                rows += 1
        self.known = dict(self._stored.values())
        # Images that changed are remembered twice.
        if rows > 2 * len(self._stored) and self._write(self.known):
            self._remove(parts)
        return dict(self.known)

    def save(self, files: Remembered) -> None:
        """Add those that are not remembered yet."""
        self.known = files
        self.add(files)

    def add(self, files: Remembered) -> None:
        """Remember some more."""
        added = {
            name: file
            for name, file in files.items()
            if name[0] in self.facts and self._stored.get(name[0], (None, None))[0] != name
        }
        if added:
            self._write(added)
            for name, file in added.items():
                self._remember(name, file, self.facts[name[0]])

    def _remember(self, name: Name, file: ReadableFile, facts: NDArray[np.void]) -> None:
        self._stored[name[0]] = name, file
        self.facts[name[0]] = facts

    def _parts(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder.iterdir() if _PART.fullmatch(path.name)) if self._folder else []
        except OSError:
            return []

    def _write(self, files: Remembered) -> bool:
        if self._folder is None:
            return False
        rows = [(*name, file.content, file.width, file.height, file.plain) for name, file in files.items()]
        content = io.BytesIO()
        np.savez(
            content,
            rows=np.frombuffer(json.dumps(rows, separators=(",", ":")).encode(), np.uint8),
            facts=np.concatenate([self.facts[sample_id] for sample_id, _, _ in files]),
        )
        parts = self._parts()
        number = int(parts[-1].name.partition("-")[0]) + 1 if parts else 0
        return write_cached(self._folder / f"{number:08d}-{secrets.token_hex(4)}.npz", content.getvalue())

    def _remove(self, parts: list[Path]) -> None:
        for part in parts:
            try:
                part.unlink(missing_ok=True)
            except OSError:
                return


def _read(part: Path) -> list[tuple[Name, ReadableFile, NDArray[np.void]]]:
    """The images of a part; none where it cannot be read."""
    try:
        with np.load(io.BytesIO(part.read_bytes()), allow_pickle=False) as arrays:
            rows = _ROWS.validate_json(arrays["rows"].tobytes(), strict=True)
            facts = arrays["facts"]
    except Exception:  # a damaged archive makes zipfile and numpy raise nearly anything
        return []
    if facts.dtype != FACTS or facts.shape != (len(rows),):
        return []
    return [
        ((sample_id, size, mtime_ns), ReadableFile(content, width, height, plain), facts[row : row + 1])
        for row, (sample_id, size, mtime_ns, content, width, height, plain) in enumerate(rows)
    ]
