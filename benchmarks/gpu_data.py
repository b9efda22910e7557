"""The section that times DALI: alone, against other loaders, and feeding training."""

import contextlib
import importlib.util
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from benchmarks.gpu_job import LEARNING_RATE, Job, make_training, noise
from benchmarks.gpu_measuring import (
    Row,
    Settings,
    SkippedError,
    Turns,
    compiler_lacks,
    form_name,
    one_line,
    release,
    synchronize,
)
from data_pipeline.config import DataConfig
from data_pipeline.listing.samples import Samples
from data_pipeline.sources.batching import EvaluationImages, TrainingImages
from data_pipeline.sources.build import evaluation_source, training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from resnet_dist.runtime.image_file import decode_rgb
from resnet_dist.training.fit import fit
from resnet_dist.training.state import TrainState
from resnet_dist.training.train_step import Recipe, StepTotals, train_step

PIPELINE_REFERENCE = "Hopper 19,000 (the pipeline alone, 70 threads)"
WAITING_LIMIT_PERCENT = 3.0
MAX_PIXELS = 10**8
CPU = torch.device("cpu")
_WARM_UP_BATCHES = 10
"""That `benchmarks.loader.images_per_second` does not count."""


def dali(settings: Settings) -> Iterator[Row]:
    """Images/s of our source on the device and on the CPU and of torchvision; training fed by it."""
    with image_files(settings, _images_wanted(settings)) as (root, samples):
        yield from _loaders(settings, root, samples)
        yield from _feeding(settings, samples)


@contextlib.contextmanager
def image_files(settings: Settings, images: int) -> Iterator[tuple[Path, Samples]]:
    """An ImageFolder of at least `images` JPEGs, few ones repeated. Raises SkippedError without DALI or JPEGs."""
    if not _dali_is_here():
        raise SkippedError("nvidia.dali is not installed")
    # It imports DALI.
    from benchmarks.loader import image_folder, samples_of  # noqa: PLC0415

    if settings.images is None and not settings.tiny:
        raise SkippedError("no photographs: name a folder of JPEGs with --images")
    if settings.images is not None and not settings.images.is_dir():
        raise ValueError(f"--images {settings.images} is no folder; name one that holds JPEGs")
    with tempfile.TemporaryDirectory(prefix="rd-gpu-") as scratch:
        folder, root = settings.images or Path(scratch, "made"), Path(scratch, "root")
        root.mkdir()
        if settings.images is None:
            _make_photographs(folder)
        try:
            image_folder(folder, root, images)
        except SystemExit as error:  # it is a script's function
            raise ValueError(str(error)) from error
        yield root, samples_of(root)


def source_on(settings: Settings, samples: Samples, device: torch.device, batch: int) -> TrainingImages:
    """Our source with DALI and the default augmentation."""
    data = DataConfig(image_size=settings.image_size, drop_last=True)
    spec = SourceSpec(data, _decode(), threads=settings.threads)
    return training_source(spec, samples, batch, batch, RankShare(device=device))


def split_on(settings: Settings, samples: Samples, device: torch.device, batch: int) -> EvaluationImages:
    """Our source of evaluation views with DALI."""
    data = DataConfig(image_size=settings.image_size)
    spec = SourceSpec(data, _decode(), threads=settings.threads)
    return evaluation_source(spec, samples, batch, RankShare(device=device))


def _loaders(settings: Settings, root: Path, samples: Samples) -> Iterator[Row]:
    from benchmarks.loader import images_per_second, torchvision_loader  # noqa: PLC0415 - it imports DALI

    device, batch = settings.device, settings.batch
    on_gpu = {} if device.type == "cpu" else {"our source on the GPU": lambda: _batches(settings, samples, device)}
    names = on_gpu | {
        "our source on the CPU": lambda: _batches(settings, samples, CPU),
        "torchvision's DataLoader": torchvision_loader(root, batch, settings.threads),
    }
    found = {name: Turns() for name in names}
    counted = len(samples) - (_WARM_UP_BATCHES + 1) * batch
    for _ in range(settings.repeats):
        for name, start in names.items():
            # A loader that cannot run must not cost the others' figures.
            try:
                # The CPU's are slower: fewer images take as long.
                images = counted if name in on_gpu else max(counted // 8, batch)
                found[name].seconds.append(1.0 / images_per_second(start, images))
            except Exception as error:
                found[name].problem, found[name].broken = f"failed: {one_line(error)}", True
            release(device)
    for name, turns in found.items():
        speeds = [1.0 / seconds for seconds in turns.seconds]
        yield turns.row(name, "images/s", speeds, PIPELINE_REFERENCE if name.startswith("our") else "")
    fastest, *others = found
    for other in others:
        yield found[fastest].ratio(f"{fastest} over {other}", found[other])


def _batches(settings: Settings, samples: Samples, device: torch.device) -> Iterator[int]:
    with source_on(settings, samples, device, settings.batch) as source:
        for step in source.epoch(0):
            for microbatch in step.microbatches:
                yield len(microbatch.images)


class _Watch:
    """Times an epoch's steps from the end of the warm-up to the last one, and how long they waited for images."""

    def __init__(self, device: torch.device, warm_up: int, steps: int) -> None:
        self._device, self._warm_up, self._steps = device, warm_up, steps
        self._seen, self._start = 0, 0.0
        self.waited = self.seconds = 0.0

    def step_done(self, _: TrainState, totals: StepTotals, waited: float) -> None:
        """Counts; only the first and the last timed step wait for the device."""
        del totals
        self._seen += 1
        if self._seen == self._warm_up:
            synchronize(self._device)
            self._start = perf_counter()
        elif self._seen > self._warm_up:
            self.waited += waited
        if self._seen == self._steps:
            synchronize(self._device)
            self.seconds = perf_counter() - self._start

    def epoch_done(self, _: TrainState, metrics: dict[str, float]) -> bool:  # noqa: ARG002
        """Validation is not timed."""
        return True


@dataclass(frozen=True)
class _Constant:
    """A plan that changes nothing."""

    recipe: Recipe

    def begin_epoch(self, _: TrainState) -> Recipe:
        """The same for all."""
        return self.recipe

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:  # noqa: ARG002
        """The same for all."""
        return LEARNING_RATE


def _feeding(settings: Settings, samples: Samples) -> Iterator[Row]:
    """An epoch through `fit` on our source, and as many steps on batches that are there already, in turns."""
    device, batch = settings.device, settings.batch
    if settings.tiny:
        samples = samples.select(np.arange(4 * batch))
    job = Job(compiled=not compiler_lacks(settings))
    resident = noise(settings, batch)
    state, recipe = make_training(settings, job, next(next(resident.epoch(0)).microbatches).images[:2])
    waiting: list[float] = []
    fed, there = Turns(), Turns()
    with (
        source_on(settings, samples, device, batch) as source,
        split_on(settings, samples.select(np.arange(batch)), device, batch) as validation,
    ):
        timed = source.steps_per_epoch - settings.warm_up
        for _ in range(settings.repeats):
            watch = _Watch(device, settings.warm_up, source.steps_per_epoch)
            fit(state, _Constant(recipe), source, validation, state.epoch + 1, 10, watch)
            fed.seconds.append(watch.seconds / timed)
            waiting.append(100.0 * watch.waited / watch.seconds)
            steps = resident.forever()
            for step in itertools.islice(steps, settings.warm_up):
                train_step(state, recipe, step, LEARNING_RATE)
            synchronize(device)
            start = perf_counter()
            for step in itertools.islice(steps, timed):
                train_step(state, recipe, step, LEARNING_RATE)
            synchronize(device)
            there.seconds.append((perf_counter() - start) / timed)
            state.step_in_epoch = 0
    form = form_name(job.compiled)
    yield fed.row(f"training fed by it, {form}", "images/s", [batch / seconds for seconds in fed.seconds])
    yield there.row(f"training on images that are there, {form}", "images/s", [batch / s for s in there.seconds])
    # The loop runs ahead of the device, so its own waiting bounds from above what the device waited.
    yield fed.row("share of the step that the loop waited for images", "%", waiting)
    exposed = [100.0 * (1.0 - 1.0 / ratio) for ratio in there.over(fed)]
    row = fed.row("share of the step exposed", "%", exposed, "under 3")
    yield replace(row, met=statistics.median(exposed) < WAITING_LIMIT_PERCENT)


def _images_wanted(settings: Settings) -> int:
    counted = 2 * settings.batch if settings.tiny else 64 * settings.batch
    return counted + (_WARM_UP_BATCHES + 1) * settings.batch


def _decode() -> Callable[[bytes], np.ndarray]:
    return partial(decode_rgb, bit_depth=None, max_pixels=MAX_PIXELS)


def _dali_is_here() -> bool:
    try:
        return importlib.util.find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:
        return False


def _make_photographs(folder: Path) -> None:
    """A few smooth random JPEGs, where only the script itself is tried."""
    from PIL import Image  # noqa: PLC0415 - needed nowhere else here

    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(8):
        coarse = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 72), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg")
