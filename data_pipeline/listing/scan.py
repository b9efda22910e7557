"""Reads every file of a folder once, whole, decodes it once, and remembers between starts what it found."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from data_pipeline.listing.completeness import is_complete
from data_pipeline.listing.image_folder import ListedImage
from data_pipeline.listing.samples import Decode, sample_id_of
from data_pipeline.listing.scan_cache import ReadableFile, ScanCache

Header = Callable[[bytes], tuple[int, int, bool]]
"""Bytes of an image file -> (upright width, upright height, plain as in `Samples.plain`). Raises ValueError."""

Probe = Callable[[list[bytes]], list[tuple[int, int] | str]]
"""Bytes of plain image files -> for each the upright width and height that training's decoder gives it, or the reason
why that decoder cannot read it."""

Progress = Callable[[int, int], None]
"""Called now and then with the number of files read and of all files to be read."""

MAX_FILE_BYTES = 512 * 2**20
_CHUNK_FILES = 64
_CHUNK_BYTES = 256 * 2**20
_SAVE_EVERY_S = 60.0


@dataclass(frozen=True)
class Readers:
    """What reads image files, for a scan."""

    decode: Decode
    """The reference, which judges the trained model."""
    header: Header
    probe: Probe | None = None
    """Training's own decoder; None where that is the reference."""


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
    cache: ScanCache | None = None,
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
                for row, result in _probed(chunk, readers):
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
        file = _decoded(file, data, readers.decode) if decoded else file
    except ValueError as error:
        return _Examined(row, str(error))
    return _Examined(row, file, data if readers.probe and file.plain else b"", decoded)


def _decoded(file: ReadableFile, data: bytes, decode: Decode) -> ReadableFile:
    """The file as the reference sees it. Where header and pixels disagree on what is upright, only the reference can
    be trusted with the file: then it is not plain. Raises ValueError where it cannot be read."""
    height, width, _ = decode(data).shape
    return replace(file, width=width, height=height, plain=file.plain and (width, height) == (file.width, file.height))


def _probed(chunk: Sequence[_Examined], readers: Readers) -> Iterator[tuple[int, ReadableFile | str]]:
    """Each row of a chunk with its final result."""
    suspects = [examined for examined in chunk if examined.data]
    verdicts = readers.probe([each.data for each in suspects]) if readers.probe and suspects else []
    verdict_of = {each.row: verdict for each, verdict in zip(suspects, verdicts, strict=True)}
    for each in chunk:
        if isinstance(each.result, str) or each.row not in verdict_of:
            yield each.row, each.result
        else:
            yield each.row, _judged(each.result, each, verdict_of[each.row], readers.decode)


def _judged(
    file: ReadableFile, examined: _Examined, verdict: tuple[int, int] | str, decode: Decode
) -> ReadableFile | str:
    """What the probe's verdict makes of a file. If it differs from the header, the reference decides, too."""
    if verdict == (file.width, file.height):
        return file
    try:
        file = file if examined.decoded else _decoded(file, examined.data, decode)
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
