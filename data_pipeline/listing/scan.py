"""Reads every file of a folder once, whole, and remembers between starts what it found."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from data_pipeline.listing.image_folder import ListedImage
from data_pipeline.listing.samples import Decode, sample_id_of
from data_pipeline.listing.scan_cache import ReadableFile, ScanCache

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


def scan(
    root: bytes,
    images: Sequence[ListedImage],
    decode: Decode,
    header: Header,
    probe: Probe | None = None,
    cache: ScanCache | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> list[ReadableFile | str]:
    """For each image what was learnt of it, or the reason why it cannot be read.

    `decode` and `header` run in `threads` threads, `probe` in the calling one. Images that `cache` knows with the
    same size and modification time are not read again; unreadable ones always are.
    """
    known = cache.load() if cache else {}
    names = [(sample_id_of(image.relative_path), image.size, image.mtime_ns) for image in images]
    results = [known.get(name, "not read yet") for name in names]
    unread = [row for row, result in enumerate(results) if isinstance(result, str)]

    def examine(row: int) -> tuple[int, ReadableFile | str, bytes]:
        result, data = _examined(root + b"/" + images[row].relative_path, images[row].size, decode, header)
        return row, result, data if probe and not isinstance(result, str) and result.plain else b""

    def save() -> None:
        if cache and unread:
            cache.save({name: file for name, file in zip(names, results, strict=True) if not isinstance(file, str)})

    done, saved = 0, time.monotonic()
    try:
        with ThreadPoolExecutor(threads) as pool:
            for chunk in _one_ahead(pool, examine, _chunks(unread, images)):
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
        return str(error), b""
    content = hashlib.blake2b(data, digest_size=16).hexdigest()
    # Where header and pixels disagree on what is upright, only `decode` can be trusted with the file.
    plain = plain and (header_width, header_height) == (width, height)
    return ReadableFile(content, width, height, plain), data


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
