"""What a scan found, remembered between starts."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from data_pipeline.config import DataConfig
from data_pipeline.listing.cache_folder import cache_folder, write_cached
from data_pipeline.listing.samples import sample_id_of


@dataclass(frozen=True)
class ReadableFile:
    """What a scan learnt of a file that decodes."""

    content: str
    """BLAKE2b-128 of its bytes, in hex."""
    width: int
    """Upright, in pixels."""
    height: int
    plain: bool
    """As in `Samples.plain`."""


Remembered = dict[tuple[str, int, int], ReadableFile]
"""Readable files by (sample id, size in bytes, modification time in ns)."""

_ROWS = TypeAdapter(list[tuple[str, int, int, str, int, int, bool]])


class ScanCache:
    """The readable files of one folder, in one JSON file.

    A convenience: a file that is missing, damaged or cannot be written only means that images are decoded again.
    Unreadable images are not remembered, so that each start sees whether they have been repaired.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, data: DataConfig, root: bytes, probe_name: str) -> "ScanCache | None":
        """The cache of a folder under the settings that decide what is readable; None for a user without a home."""
        folder = cache_folder(data)
        if folder is None:
            return None
        decided_by = json.dumps(["scan/1", sample_id_of(root), data.bit_depth, data.max_pixels, probe_name])
        digest = hashlib.blake2b(decided_by.encode(), digest_size=16).hexdigest()
        return cls(folder / "scan" / f"{digest}.json")

    def load(self) -> Remembered:
        """What was remembered; nothing where it cannot be read."""
        try:
            rows = _ROWS.validate_json(self.path.read_bytes(), strict=True)
        except (OSError, ValidationError):
            return {}
        return {
            (sample_id, size, mtime_ns): ReadableFile(content, width, height, plain)
            for sample_id, size, mtime_ns, content, width, height, plain in rows
        }

    def save(self, files: Remembered) -> None:
        """Replace what is remembered, whole or not at all."""
        rows = [(*key, file.content, file.width, file.height, file.plain) for key, file in files.items()]
        write_cached(self.path, json.dumps(rows, separators=(",", ":")).encode())
