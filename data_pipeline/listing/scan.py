"""Reads every file of a folder once, whole, decodes it once, and remembers between starts what it found."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data_pipeline.listing.completeness import is_complete
from data_pipeline.listing.image_folder import ListedImage
from data_pipeline.listing.samples import Decode, sample_id_of
from data_pipeline.listing.scan_cache import ReadableFile, Remembered

Header = Callable[[bytes], tuple[int, int, bool]]
"""Bytes of an image file -> (upright width, upright height, plain as in `Samples.plain`). Raises ValueError."""

Show = Callable[[int, NDArray[np.uint8]], None]
"""Given a position among the files that a probe decodes, and uint8 [height, width, 3], valid only within the call."""


class Probe(Protocol):
    """Training's own decoder."""

    def __call__(self, images: list[bytes], show: Show | None = None) -> list[tuple[int, int] | str]:
        """For the bytes of each plain image file its upright width and height, or the reason why this decoder cannot
        read it. What is decoded is shown, some of it maybe twice."""
        ...


See = Callable[[int, bytes, NDArray[np.uint8]], None]
"""Given an image's position, the bytes of its file and its pixels as `Decode` makes them. Called in any thread, and
again where a second decoding corrects the first."""

Progress = Callable[[int, int], None]
"""Called now and then with the number of files read and of all files to be read."""

MAX_FILE_BYTES = 512 * 2**20
_CHUNK_FILES = 64
_CHUNK_BYTES = 256 * 2**20
_SAVE_EVERY_S = 60.0


class Memory(Protocol):
    """What remembers readable files between starts, see `ScanCache`."""

    def load(self) -> Remembered:
        """What was remembered."""
        ...

    def save(self, files: Remembered) -> None:
        """Remember these. Called now and then, with all that were read so far."""
        ...


@dataclass(frozen=True)
class Readers:
    """What reads image files, for a scan."""

    decode: Decode
    """The reference, which judges the trained model."""
    header: Header
    probe: Probe | None = None
    """None where training decodes by the reference."""
    see: See | None = None
    """Is shown every image that is decoded; None: nobody."""


@dataclass(frozen=True)
class _Examined:
    """What was learnt of a file before the probe."""

    row: int
    result: ReadableFile | str
    data: bytes = b""
    """The file, where the probe is to read it; else empty."""
    decoded: bool = True
    """Whether the reference has decoded it."""


def scan(
    root: bytes,
    images: Sequence[ListedImage],
    readers: Readers,
    cache: Memory | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> list[ReadableFile | str]:
    """For each image what was learnt of it, or the reason why it cannot be read.

    A file is readable where both the reference and training's decoder read it. Of a plain file that is complete (see
    `is_complete`) one decoding tells that: the probe's, if its size is that of the header. Every other file is decoded
    by the reference, and by the probe too where it is plain.

    `decode` and `header` run in `threads` threads, `probe` in the calling one. Images that `cache` knows with the
    same size and modification time are not read again; unreadable ones always are.
    """
    remembered = cache.load() if cache else {}
    names = [(sample_id_of(image.relative_path), image.size, image.mtime_ns) for image in images]
    results = [remembered.get(name, "not read yet") for name in names]
    unread = [row for row, result in enumerate(results) if isinstance(result, str)]

    def examine(row: int) -> _Examined:
        return _examined(row, root + b"/" + images[row].relative_path, images[row].size, readers)

    def save() -> None:
        if cache and unread:
            cache.save({name: file for name, file in zip(names, results, strict=True) if not isinstance(file, str)})

    done, saved = 0, time.monotonic()
    try:
        with ThreadPoolExecutor(threads) as pool:
            for chunk in _one_ahead(pool, examine, _chunks(unread, images)):
                for row, result in _probed(chunk, readers, pool):
                    results[row] = result
                done += len(chunk)
                if progress:
                    progress(done, len(unread))
                if time.monotonic() - saved > _SAVE_EVERY_S:
                    save()
                    saved = time.monotonic()
    finally:
        save()
    return results


def _examined(row: int, path: bytes, size: int, readers: Readers) -> _Examined:
    """A file read, and decoded by the reference unless the probe's decoding is enough."""
    too_large = _Examined(row, f"more than {MAX_FILE_BYTES // 2**20} MiB")
    if size > MAX_FILE_BYTES:
        return too_large
    try:
        with open(path, "rb") as file:  # noqa: PTH123  pathlib knows no paths of bytes
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return _Examined(row, error.strerror or str(error))
    if len(data) > MAX_FILE_BYTES:
        return too_large
    try:
        width, height, plain = readers.header(data)
        file = ReadableFile(hashlib.blake2b(data, digest_size=16).hexdigest(), width, height, plain)
        decoded = readers.probe is None or not plain or not is_complete(data)
        file = _decoded(row, file, data, readers) if decoded else file
    except ValueError as error:
        return _Examined(row, str(error))
    return _Examined(row, file, data if readers.probe and file.plain else b"", decoded)


def _decoded(row: int, file: ReadableFile, data: bytes, readers: Readers) -> ReadableFile:
    """The file as the reference sees it. Where header and pixels disagree on what is upright, only the reference can
    be trusted with the file: then it is not plain. Raises ValueError where it cannot be read."""
    pixels = readers.decode(data)
    height, width, _ = pixels.shape
    if readers.see:
        readers.see(row, data, pixels)
    return replace(file, width=width, height=height, plain=file.plain and (width, height) == (file.width, file.height))


def _probed(
    chunk: Sequence[_Examined], readers: Readers, pool: ThreadPoolExecutor
) -> Iterator[tuple[int, ReadableFile | str]]:
    """Each row of a chunk with its final result."""
    suspects = [examined for examined in chunk if examined.data]
    verdicts = _verdicts(suspects, readers, pool) if suspects else []
    verdict_of = {each.row: verdict for each, verdict in zip(suspects, verdicts, strict=True)}
    for each in chunk:
        if isinstance(each.result, str) or each.row not in verdict_of:
            yield each.row, each.result
        else:
            yield each.row, _judged(each.result, each, verdict_of[each.row], readers)


def _verdicts(suspects: Sequence[_Examined], readers: Readers, pool: ThreadPoolExecutor) -> list[tuple[int, int] | str]:
    """The probe's. What it decodes is seen in the pool's threads, while it decodes more."""
    files, see, probe = [each.data for each in suspects], readers.see, readers.probe
    if probe is None:
        return []
    if see is None:
        return probe(files)
    seen: list[Future[None]] = []

    def show(place: int, pixels: NDArray[np.uint8]) -> None:
        each = suspects[place]
        if not each.decoded:  # the reference's decoding was seen, and counts
            seen.append(pool.submit(see, each.row, each.data, pixels.copy()))

    verdicts = probe(files, show)
    for future in seen:
        future.result()
    return verdicts


def _judged(
    file: ReadableFile, examined: _Examined, verdict: tuple[int, int] | str, readers: Readers
) -> ReadableFile | str:
    """What the probe's verdict makes of a file. If it differs from the header, the reference decides, too."""
    if verdict == (file.width, file.height):
        return file
    try:
        file = file if examined.decoded else _decoded(examined.row, file, examined.data, readers)
    except ValueError as error:
        return str(error)
    return verdict if isinstance(verdict, str) else replace(file, plain=False)


def _chunks(rows: Sequence[int], images: Sequence[ListedImage]) -> Iterator[list[int]]:
    """Rows in chunks small enough that the bytes of two of them fit in memory."""
    chunk: list[int] = []
    size = 0
    for row in rows:
        if chunk and (len(chunk) == _CHUNK_FILES or size + images[row].size > _CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += images[row].size
    if chunk:
        yield chunk


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
