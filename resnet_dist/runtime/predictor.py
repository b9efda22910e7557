"""What a production line calls: images in, classes with probabilities out."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as PillowImage

from resnet_dist.runtime.bundle import Bundle
from resnet_dist.runtime.engines import PlacedEngine, load_engine, usable_cores
from resnet_dist.runtime.errors import UnreadableImageError
from resnet_dist.runtime.held_image import rgb_of_array, rgb_of_pillow
from resnet_dist.runtime.image_file import MOST_FILE_BYTES
from resnet_dist.runtime.providers import Provider
from resnet_dist.runtime.regular_file import read_regular
from resnet_dist.runtime.time_limit import BATCH_TIMEOUT_S

K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")
Image = str | Path | bytes | NDArray[np.uint8] | NDArray[np.uint16] | PillowImage
"""A path, a file's bytes, an image of Pillow, or an upright uint8 or uint16 array: [height, width, 3] RGB, or grey
[height, width]. 16-bit values need the run's `data.bit_depth`."""

NOT_FINITE = "the model's answer is not finite"


@dataclass(frozen=True)
class Prediction:
    """The answer to one image."""

    label: str | None
    """A class; None where no class is probable enough, or there is an error."""
    confidence: float
    """The answer's calibrated probability in 0..1; of a rejected image that of the class it would have had; 0 with an
    error."""
    probabilities: tuple[float, ...]
    """Of each class, in the bundle's order; empty with an error."""
    error: str | None = None
    """Why the image could not be read, or why the model's answer is none."""
    runs_on: str = field(default="", compare=False)
    """Runtime and device that answered, such as "ONNX Runtime on cpu"; empty for an image that could not be read."""


class Predictor:
    """Answers images by one format of a bundle."""

    def __init__(self, bundle: Bundle, engine: PlacedEngine, threads: int, any_size: bool = False) -> None:
        self.bundle = bundle
        self.classes = bundle.classes
        self.runs_on = engine.runs_on
        """Runtime and device, and which devices were passed over and why; for people."""
        self._engine = engine
        self._device = engine.runs_on.partition(";")[0]
        self._threads = threads
        self._any_size = any_size  # the engine resizes by itself, and takes images of one size at a time

    @classmethod
    def from_bundle(
        cls,
        place: str | Path,
        format_name: str | None = None,
        threads: int | None = None,
        public_key: str | Path | None = None,
        batch_timeout_s: float = BATCH_TIMEOUT_S,
        providers: Sequence[Provider] | None = None,
    ) -> "Predictor":
        """Load a format, by default ONNX, of the bundle in a folder, on `threads` threads, by default all cores.

        An ONNX format runs on the first of the providers ("tensorrt", "cuda", "cpu") that there is, by default in this
        order of those that the installed ONNX Runtime knows. `runs_on` says which it is, and why those before it are
        not. Where there is none, RuntimeMissingError says what each of them lacks.
        A model that takes longer than `batch_timeout_s` to load, or for a batch, is given up with a BundleError. Raises
        BundleError and RuntimeMissingError as `Bundle.open` and `load_engine` do.
        """
        return cls.of(Bundle.open(place, public_key), format_name, threads, batch_timeout_s, providers)

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        format_name: str | None = None,
        threads: int | None = None,
        batch_timeout_s: float = BATCH_TIMEOUT_S,
        providers: Sequence[Provider] | None = None,
    ) -> "Predictor":
        """As `from_bundle`, of a bundle that is open."""
        name, chosen = bundle.format(format_name)
        engine = load_engine(bundle, name, threads, batch_timeout_s, providers)
        return cls(bundle, engine, threads or usable_cores(), chosen.any_size)

    def predict(self, images: Sequence[Image], batch_size: int = 8) -> list[Prediction]:
        """The answer to each image, in order. An image that cannot be read is an answer too, with its `error`."""
        return [answer for _, answer in self.stream(((None, image) for image in images), batch_size)]

    def stream(self, images: Iterable[tuple[K, Image]], batch_size: int = 8) -> Iterator[tuple[K, Prediction]]:
        """Each image's key, which is yours to choose, and its answer, in order.

        At most three batches of images are in memory, or two images for each thread. Decoding goes on beside the
        model. Raises ValueError for an array that is no image.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}; a batch holds at least one image")
        with ThreadPoolExecutor(self._threads) as decoders, ThreadPoolExecutor(1) as model:
            read = _ahead(decoders, self._read, images, 2 * max(batch_size, self._threads))
            answered = _ahead(model, self._answer, _batches(read, batch_size), 1)
            for batch in answered:
                yield from batch

    def _read(self, item: tuple[K, Image]) -> tuple[K, NDArray[np.uint8] | str]:
        key, image = item
        return key, self._pixels(image)

    def _pixels(self, image: Image) -> NDArray[np.uint8] | str:
        """An image as the engine takes it, or why it cannot be read."""
        preprocess = self.bundle.preprocess
        try:
            match image:
                case np.ndarray():
                    pixels = rgb_of_array(image, bit_depth=preprocess.bit_depth)
                case PillowImage():
                    pixels = rgb_of_pillow(image, bit_depth=preprocess.bit_depth, max_pixels=preprocess.max_pixels)
                case bytes():
                    pixels = preprocess.decode(image)
                case _:
                    pixels = preprocess.decode(_content(image))
            return pixels if self._any_size else preprocess.apply(pixels)
        except UnreadableImageError as error:
            return str(error)
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"

    def _answer(self, batch: list[tuple[K, NDArray[np.uint8] | str]]) -> list[tuple[K, Prediction]]:
        good = [image for _, image in batch if not isinstance(image, str)]
        stacks = [image[None] for image in good] if self._any_size else [np.stack(good)] if good else []
        rows = iter([answer for stack in stacks for answer in self._predictions(stack)])
        return [
            (key, Prediction(None, 0.0, (), image) if isinstance(image, str) else next(rows)) for key, image in batch
        ]

    def _predictions(self, images: NDArray[np.uint8]) -> list[Prediction]:
        point, logits = self.bundle.operating_point, self._engine(images)
        is_finite = np.logical_and.reduce(np.isfinite(logits), axis=1)
        probabilities = point.probabilities(np.where(is_finite[:, None], logits, np.float32(0)))
        candidates, is_answered = point.decide(probabilities)
        found: list[Prediction] = []
        for row, candidate, is_sure, is_one in zip(probabilities, candidates, is_answered, is_finite, strict=True):
            if not is_one:
                found.append(Prediction(None, 0.0, (), NOT_FINITE, self._device))
                continue
            label = self.classes[int(candidate)] if is_sure else None
            found.append(Prediction(label, float(row[candidate]), tuple(row.tolist()), runs_on=self._device))
        return found


def _content(path: str | Path) -> bytes:
    try:
        return read_regular(path, MOST_FILE_BYTES)
    except ValueError as error:  # such as a NUL in it
        raise UnreadableImageError(f"no path of a file: {error}") from error


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _ahead(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T], count: int) -> Iterator[R]:
    """work(item) of each, in order, with `count` of them begun ahead of the one that is asked for."""
    waiting = deque[Future[R]]()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
