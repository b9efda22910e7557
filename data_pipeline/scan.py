"""Reads every file of a folder once, whole, and remembers between starts what it found."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from data_pipeline.config import DataConfig
from data_pipeline.samples import Decode, sample_id_of

Header = Callable[[bytes], tuple[int, int, bool]]
"""Bytes of an image file -> (upright width, upright height, plain as in `Samples.plain`). Raises ValueError."""

Probe = Callable[[list[bytes]], list[str | None]]
"""Bytes of plain image files -> for each the reason why training's decoder cannot read it, None where it can."""

Progress = Callable[[int, int], None]
"""Called now and then with the number of files read and of all files to be read."""

MAX_FILE_BYTES = 512 * 2**20
_CHUNK_FILES = 64
_CHUNK_BYTES = 256 * 2**20
_SAVE_EVERY_S = 60.0


@dataclass(frozen=True)
class FoundFile:
    """A regular file under the root."""

    relative_path: bytes
    size: int
    """Bytes."""
    mtime_ns: int


@dataclass(frozen=True)
class ReadableFile:
    """What a scan learnt of a file that decodes."""

    content: str
    """BLAKE2b-128 of its bytes, in hex."""
    width: int
    """Upright, in pixels."""
    height: int
    plain: bool


def scan(
    root: bytes,
    files: Sequence[FoundFile],
    decode: Decode,
    header: Header,
    probe: Probe | None = None,
    cache: "ScanCache | None" = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> list[ReadableFile | str]:
    """For each file what was learnt of it, or the reason why it cannot be read.

    `decode` and `header` run in `threads` threads, `probe` in the calling one. Files that `cache` knows with the
    same size and modification time are not read again; unreadable ones always are.
    """
    known = cache.load() if cache else {}
    ids = [sample_id_of(file.relative_path) for file in files]
    results: list[ReadableFile | str] = [_remembered(known.get(ids[row]), file) for row, file in enumerate(files)]
    unread = [row for row, result in enumerate(results) if isinstance(result, str)]

    def examine(row: int) -> tuple[int, ReadableFile | str, bytes]:
        result, data = _examined(root + b"/" + files[row].relative_path, files[row].size, decode, header)
        return row, result, data if probe and isinstance(result, ReadableFile) and result.plain else b""

    def save() -> None:
        if cache and unread:
            cache.save({i: (f, r) for i, f, r in zip(ids, files, results, strict=True) if isinstance(r, ReadableFile)})

    done, saved = 0, time.monotonic()
    try:
        with ThreadPoolExecutor(threads) as pool:
            for chunk in _one_ahead(pool, examine, _chunks(unread, files)):
                suspects = [(row, data) for row, _, data in chunk if data]
                verdicts = probe([data for _, data in suspects]) if probe and suspects else []
                refused = {row: why for (row, _), why in zip(suspects, verdicts, strict=True) if why is not None}
                for row, result, _ in chunk:
                    results[row] = refused.get(row, result)
                done += len(chunk)
                if progress:
                    progress(done, len(unread))
                if time.monotonic() - saved > _SAVE_EVERY_S:
                    save()
                    saved = time.monotonic()
    finally:
        save()
    return results


_Entry = tuple[int, int, str, int, int, bool]
_ENTRIES = TypeAdapter(dict[str, _Entry])


class ScanCache:
    """Readable files of one folder, by sample id, size and modification time.

    A convenience: a file that is missing, damaged or cannot be written only means that images are decoded again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, data: DataConfig, root: bytes, probe: Probe | None) -> "ScanCache | None":
        """The cache of a folder under these settings; None where the user has no cache folder."""
        try:
            home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
            folder = Path(data.cache_dir).expanduser() if data.cache_dir else Path(home, "resnet-dist")
        except RuntimeError:  # no home folder
            return None
        kind = type(probe) if probe and not hasattr(probe, "__qualname__") else probe
        probe_name = f"{kind.__module__}.{getattr(kind, '__qualname__', '')}" if kind else ""
        decided_by = json.dumps(["scan/1", sample_id_of(root), data.bit_depth, data.max_pixels, probe_name])
        digest = hashlib.blake2b(decided_by.encode(), digest_size=16).hexdigest()
        return cls(folder / "scan" / f"{digest}.json")

    def load(self) -> dict[str, tuple[FoundFile, ReadableFile]]:
        """What is remembered, by sample id."""
        try:
            entries = _ENTRIES.validate_json(self.path.read_bytes(), strict=True)
        except (OSError, ValidationError):
            return {}
        return {
            sample_id: (FoundFile(b"", size, mtime_ns), ReadableFile(content, width, height, plain))
            for sample_id, (size, mtime_ns, content, width, height, plain) in entries.items()
        }

    def save(self, files: dict[str, tuple[FoundFile, ReadableFile]]) -> None:
        """Replace what is remembered, whole or not at all."""
        entries: dict[str, _Entry] = {
            sample_id: (found.size, found.mtime_ns, file.content, file.width, file.height, file.plain)
            for sample_id, (found, file) in files.items()
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.path.parent, prefix=".scan-", delete=False) as file:
                temporary = Path(file.name)
                try:
                    file.write(json.dumps(entries, separators=(",", ":")).encode())
                    file.close()
                    temporary.replace(self.path)
                finally:
                    temporary.unlink(missing_ok=True)
        except OSError:
            return


def _remembered(entry: tuple[FoundFile, ReadableFile] | None, file: FoundFile) -> ReadableFile | str:
    if entry and (entry[0].size, entry[0].mtime_ns) == (file.size, file.mtime_ns):
        return entry[1]
    return "not read yet"


def _examined(path: bytes, size: int, decode: Decode, header: Header) -> tuple[ReadableFile | str, bytes]:
    too_large = f"more than {MAX_FILE_BYTES // 2**20} MiB"
    if size > MAX_FILE_BYTES:
        return too_large, b""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  pathlib knows no paths of bytes
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return error.strerror or str(error), b""
    if len(data) > MAX_FILE_BYTES:
        return too_large, b""
    try:
        height, width, _ = decode(data).shape
        header_width, header_height, plain = header(data)
    except ValueError as error:
        return str(error), data
    content = hashlib.blake2b(data, digest_size=16).hexdigest()
    # Where header and pixels disagree on what is upright, only `decode` can be trusted with the file.
    plain = plain and (header_width, header_height) == (width, height)
    return ReadableFile(content, width, height, plain), data


def _chunks(rows: Sequence[int], files: Sequence[FoundFile]) -> Iterator[list[int]]:
    """Rows in chunks small enough that the bytes of two of them fit in memory."""
    chunk: list[int] = []
    size = 0
    for row in rows:
        if chunk and (len(chunk) == _CHUNK_FILES or size + files[row].size > _CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += files[row].size
    if chunk:
        yield chunk


_Examined = tuple[int, ReadableFile | str, bytes]


def _one_ahead(
    pool: ThreadPoolExecutor, examine: Callable[[int], _Examined], chunks: Iterator[list[int]]
) -> Iterator[list[_Examined]]:
    """Each chunk's results, while the pool works on the next chunk."""
    running: list[Future[_Examined]] = []
    for chunk in chunks:
        following = [pool.submit(examine, row) for row in chunk]
        if running:
            yield [future.result() for future in running]
        running = following
    if running:
        yield [future.result() for future in running]
