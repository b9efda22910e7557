"""Images through DALI: files read and decoded ahead of the consumer, views applied on the CPU or the GPU."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateImportUsage=false
# DALI's classes are compiled and carry no types.

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_pipeline.config import DataConfig
from data_pipeline.errors import DataError
from data_pipeline.listing.samples import Decode, Samples, read_file
from data_pipeline.sources.batching import Request
from data_pipeline.sources.cpu_resize import CpuResize
from data_pipeline.sources.dali_graphs import ENCODED, Operators, build_graph, parameters
from data_pipeline.sources.dali_probe import probe, reason_of
from data_pipeline.views.augmentation import Views, evaluation_views

_DEPTH = 2
"""Runs that DALI works on at once."""

Encoded = list[NDArray[np.uint8]]


class DaliRenderer:
    """One graph, used by the latest `render`; a thread of its own keeps `data.prefetch` batches ahead."""

    def __init__(
        self,
        data: DataConfig,
        samples: Samples,
        operators: Operators,
        batch_size: int,
        device: torch.device,
        threads: int,
        decode: Decode,
    ) -> None:
        self._data = data
        self._samples = samples
        self._operators = operators
        self._batch_size = batch_size
        self._device = device
        self._threads = threads
        self._decode = decode
        self._readers = ThreadPoolExecutor(threads, thread_name_prefix="dali-read")
        self._resize = CpuResize(threads) if device.type == "cpu" else None
        self._latest: _Ahead | None = None
        self._graph: Any = self._primed_graph()
        # Copies on a stream of their own wait for DALI only, not for the training step that is under way.
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None

    def render(self, requests: Iterator[Request]) -> Generator[torch.Tensor]:
        """Images of each request, see `Renderer`. Raises DataError for a file that cannot be read or decoded.

        A graph makes one sequence of batches at a time: an earlier `render` that was left unfinished ends here, and
        raises RuntimeError if it is taken up again.
        """
        self._end_latest()
        ahead = self._latest = _Ahead(partial(self._run, requests), self._data.prefetch)
        try:
            for images in ahead:
                if images.is_cuda:
                    # Whoever uses the images on this stream has done so before their memory is given to other ones.
                    images.record_stream(torch.cuda.current_stream(self._device))
                yield images
        finally:
            ahead.end()

    def close(self) -> None:
        """Free DALI's threads and memory."""
        self._end_latest()
        self._readers.shutdown(cancel_futures=True)
        self._graph = None
        if self._resize is not None:
            self._resize.close()

    def _end_latest(self) -> None:
        if self._latest is not None:
            self._latest.end()
        self._latest = None

    def _primed_graph(self) -> Any:
        """A graph without a history.

        A pipeline's first `schedule_run` starts as many runs as its queue is deep, which an epoch of few batches
        could not feed; so they get an image of one pixel.
        """
        device_id = None if self._device.type == "cpu" else self._device.index or 0
        graph = build_graph(
            self._data, self._operators, self._batch_size, self._threads, device_id, _DEPTH, self._resize
        )
        pixel = np.frombuffer(as_ppm(np.zeros((1, 1, 3), dtype=np.uint8)), dtype=np.uint8)
        views = evaluation_views(self._data, np.ones((1, 2), dtype=np.int32))
        for _ in range(_DEPTH):
            self._feed(graph, views, [pixel])
        graph.schedule_run()
        for _ in range(_DEPTH):
            graph.share_outputs()
            graph.release_outputs()
        return graph

    def _run(self, requests: Iterator[Request], stop: threading.Event) -> Iterator[torch.Tensor]:
        """Keep DALI busy: whatever was scheduled is also taken out, so that the next `render` finds it empty."""
        reading: deque[tuple[Request, Future[Encoded]]] = deque()
        scheduled: deque[tuple[Request, Encoded]] = deque()
        submitted = ((request, self._readers.submit(self._read, request)) for request in requests)
        graph, self._graph = self._graph or self._primed_graph(), None
        try:
            while True:
                if not stop.is_set():
                    reading.extend(islice(submitted, _DEPTH + 1 - len(reading)))
                while reading and len(scheduled) < _DEPTH and not stop.is_set():
                    request, future = reading.popleft()
                    encoded = future.result()
                    self._feed(graph, request.views, encoded)
                    graph.schedule_run()
                    scheduled.append((request, encoded))
                if not scheduled:
                    break
                try:
                    images = self._take(graph)
                except RuntimeError as error:
                    raise self._undecodable(scheduled, error) from error
                finally:
                    scheduled.popleft()
                yield images
        finally:
            # DALI does not copy what it decodes: the bytes must stay until their runs have ended.
            for _ in scheduled:
                with suppress(RuntimeError):
                    self._take(graph)
        # Only now: a graph that an error has stopped is never used again.
        self._graph = graph

    def _read(self, request: Request) -> Encoded:
        """What DALI decodes: a file's own bytes, or its pixels where decoders would not agree on them."""
        encoded: Encoded = []
        for row in request.rows.tolist():
            try:
                data = read_file(self._samples, row)
                as_is = self._samples.plain[row]
                encoded.append(np.frombuffer(data if as_is else as_ppm(self._decode(data)), dtype=np.uint8))
            except (OSError, ValueError) as error:
                raise DataError(
                    f"{self._samples.sample_ids[row]!r} was readable at the scan and is not now ({error}); "
                    "restore it and start again"
                ) from error
        return encoded

    def _feed(self, graph: Any, views: Views, encoded: Encoded) -> None:
        graph.feed_input(ENCODED, encoded)
        for name, values in parameters(views, self._operators).items():
            graph.feed_input(name, values)

    def _take(self, graph: Any) -> torch.Tensor:
        """The images of the run that was scheduled first. Raises RuntimeError when DALI cannot decode one."""
        (images,) = graph.share_outputs()
        tensor = torch.from_dlpack(images.as_tensor())
        if self._copies is not None:
            # DALI does not know when torch has done with its memory on the GPU; on the CPU a tensor keeps it.
            with torch.cuda.stream(self._copies):
                tensor = tensor.clone()
            self._copies.synchronize()
        graph.release_outputs()
        return tensor.permute(0, 3, 1, 2)

    def _undecodable(self, scheduled: Sequence[tuple[Request, Encoded]], error: RuntimeError) -> DataError:
        """Names the files that are to blame: DALI does not say, not even which of the runs under way failed."""
        rows = [row for request, _ in scheduled for row in request.rows.tolist()]
        verdicts = probe([image.tobytes() for _, encoded in scheduled for image in encoded])
        blamed = [row for row, verdict in zip(rows, verdicts, strict=True) if isinstance(verdict, str)] or rows
        names = ", ".join(repr(self._samples.sample_ids[row]) for row in blamed)
        return DataError(
            f"DALI could not decode {names if len(blamed) == 1 else 'one of ' + names}, which was readable when the "
            f'data was scanned: {reason_of(error)}; restore the file, or use data.source="reference"'
        )


class _Ahead:
    """A thread that makes batches ahead of whoever iterates."""

    def __init__(self, batches: Callable[[threading.Event], Iterator[torch.Tensor]], prefetch: int) -> None:
        self._done: queue.Queue[torch.Tensor | Exception | None] = queue.Queue(prefetch)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(batches,), name="dali-ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[torch.Tensor]:
        while (item := self._done.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    def end(self) -> None:
        """Returns when the thread has ended."""
        self._stop.set()
        while self._thread.is_alive():
            # The thread may be waiting to hand over a batch that nobody wants any more.
            with suppress(queue.Empty):
                self._done.get(timeout=0.01)
        with suppress(queue.Empty):
            while True:
                self._done.get_nowait()
        self._done.put(RuntimeError("these batches were given up when others were asked for; ask for them again"))

    def _fill(self, batches: Callable[[threading.Event], Iterator[torch.Tensor]]) -> None:
        try:
            for images in batches(self._stop):
                self._done.put(images)
        except Exception as error:  # handed to the consumer, whatever it is
            self._done.put(error)
        else:
            self._done.put(None)


def as_ppm(pixels: NDArray[np.uint8]) -> bytes:
    """An RGB image uint8 [height, width, 3] as a file that every decoder reads without loss."""
    height, width, _ = pixels.shape
    return b"P6\n%d %d\n255\n" % (width, height) + pixels.tobytes()
