"""Images through DALI: files read and decoded ahead of the consumer, views applied on the CPU or the GPU."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateImportUsage=false
# DALI's classes are compiled and carry no types.

import queue
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_pipeline.augmentation import Views, evaluation_views
from data_pipeline.config import DataConfig
from data_pipeline.dali_graphs import ENCODED, Operators, build_graph, parameters
from data_pipeline.errors import DataError
from data_pipeline.reference_source import read_file
from data_pipeline.samples import Decode, Samples
from data_pipeline.sources import Request

_DEPTH = 2
"""Runs that DALI works on at once."""

Encoded = list[NDArray[np.uint8]]


class DaliRenderer:
    """One built graph, used by one `render` at a time; a thread of its own keeps `data.prefetch` batches ahead."""

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
        self._samples = samples
        self._operators = operators
        self._device = device
        self._decode = decode
        self._prefetch = data.prefetch
        self._threads = threads
        device_id = None if device.type == "cpu" else device.index or 0
        self._graph: Any = build_graph(data, operators, batch_size, threads, device_id, _DEPTH)
        self._readers = ThreadPoolExecutor(threads, thread_name_prefix="dali-read")
        self._in_use = threading.Lock()
        self._prime(data)

    def render(self, requests: Iterator[Request]) -> Generator[torch.Tensor]:
        """Images of each request, see `Renderer`. Raises DataError for a file that cannot be read or decoded."""
        done: queue.Queue[torch.Tensor | Exception | None] = queue.Queue(self._prefetch)
        stop = threading.Event()
        thread = threading.Thread(target=self._produce, args=(requests, done, stop), name="dali-ahead", daemon=True)
        thread.start()
        try:
            while True:
                item = done.get()
                if item is None:
                    return
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            stop.set()
            while thread.is_alive():
                # The thread may be waiting to hand over a batch that nobody wants any more.
                try:
                    done.get(timeout=0.01)
                except queue.Empty:
                    continue
            thread.join()

    def close(self) -> None:
        """Free DALI's threads and memory."""
        self._readers.shutdown(cancel_futures=True)
        self._graph = None

    def _prime(self, data: DataConfig) -> None:
        """A pipeline's first `schedule_run` starts as many runs as its queue is deep, which an epoch of few batches
        could not feed; so they get an image of one pixel."""
        pixel = np.frombuffer(as_ppm(np.zeros((1, 1, 3), dtype=np.uint8)), dtype=np.uint8)
        views = evaluation_views(data, np.ones((1, 2), dtype=np.int32))
        for _ in range(_DEPTH):
            self._feed(views, [pixel])
        self._graph.schedule_run()
        for _ in range(_DEPTH):
            self._graph.share_outputs()
            self._graph.release_outputs()

    def _produce(
        self,
        requests: Iterator[Request],
        done: "queue.Queue[torch.Tensor | Exception | None]",
        stop: threading.Event,
    ) -> None:
        try:
            with self._in_use:
                for images in self._run(requests, stop):
                    done.put(images)
        except Exception as error:  # handed to the consumer, whatever it is
            done.put(error)
        else:
            done.put(None)

    def _run(self, requests: Iterator[Request], stop: threading.Event) -> Iterator[torch.Tensor]:
        """Keep DALI busy: whatever was scheduled is also taken out, so that the next `render` finds it empty."""
        reading: deque[tuple[Request, Future[Encoded]]] = deque()
        scheduled: deque[tuple[Request, Encoded]] = deque()
        remaining = ((request, self._readers.submit(self._read, request)) for request in requests)
        while True:
            if not stop.is_set():
                reading.extend(islice(remaining, _DEPTH + 1 - len(reading)))
            while reading and len(scheduled) < _DEPTH and not stop.is_set():
                request, encoded = reading.popleft()
                scheduled.append((request, self._schedule(request, encoded.result())))
            if not scheduled:
                return
            images = self._take(scheduled[0][0])
            scheduled.popleft()
            if not stop.is_set():
                yield images

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

    def _schedule(self, request: Request, encoded: Encoded) -> Encoded:
        """Feed and start a run; returns what must stay alive until its end, since DALI does not copy it."""
        self._feed(request.views, encoded)
        self._graph.schedule_run()
        return encoded

    def _feed(self, views: Views, encoded: Encoded) -> None:
        self._graph.feed_input(ENCODED, encoded)
        for name, values in parameters(views, self._operators).items():
            self._graph.feed_input(name, values)

    def _take(self, request: Request) -> torch.Tensor:
        """The images of the run that was scheduled first: copied, since DALI reuses its buffers."""
        try:
            (images,) = self._graph.share_outputs()
        except RuntimeError as error:
            names = ", ".join(repr(self._samples.sample_ids[row]) for row in request.rows.tolist())
            raise DataError(
                f"DALI could not decode one of {names}, which was readable when the data was scanned: {error}; "
                'restore the file, or use data.source="reference"'
            ) from error
        tensor = torch.from_dlpack(images.as_tensor()).clone()
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        self._graph.release_outputs()
        return tensor.permute(0, 3, 1, 2)


def as_ppm(pixels: NDArray[np.uint8]) -> bytes:
    """An RGB image uint8 [height, width, 3] as a file that every decoder reads without loss."""
    height, width, _ = pixels.shape
    return b"P6\n%d %d\n255\n" % (width, height) + pixels.tobytes()
