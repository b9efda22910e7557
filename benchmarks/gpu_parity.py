"""The section that compares results instead of times: a training curve and DALI's views, GPU against CPU."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.gpu_data import CPU, image_files, source_on, split_on
from benchmarks.gpu_job import Job, ResidentSource, make_training
from benchmarks.gpu_measuring import Row, Settings, SkippedError, Switches
from data_pipeline.config import DataConfig
from data_pipeline.sources.batches import ImageMicrobatch
from data_pipeline.sources.synthetic_source import synthetic_images
from resnet_dist.training.train_step import train_step

FIRST_TOLERANCE = 1e-4
"""Largest difference of the first step's mean loss: nothing has been learnt yet, so it is rounding alone."""
CURVE_TOLERANCE = 0.05
"""Largest difference of any step's mean loss. Training amplifies rounding: fp32 and float64 on the same CPU come
0.016 apart within 50 steps (ResNet-18, 64 px, this rate), in which the loss falls by 0.3."""
CURVE_RATE = 3e-5
"""Learning rate: with a higher one amplified rounding would hide a mistake (0.06 within 50 steps at 1e-4)."""
MEAN_LIMIT, TAIL_LIMIT = 0.5, 16.0
"""Levels of 255 by which two decoders may differ on average and in all but a thousandth of the numbers."""
_CLASSES = 10


@dataclass(frozen=True)
class _Curve:
    """How much is trained for the comparison."""

    steps: int
    batch: int
    image_size: int


def parity(settings: Settings) -> Iterator[Row]:
    """Largest differences, each with its tolerance."""
    yield from _training(settings, _Curve(3, 8, 64) if settings.tiny else _Curve(50, 16, 96))
    try:
        yield from _views(settings)
    except SkippedError as reason:
        yield Row("DALI's views", None, "levels of 255", note=f"skipped: {reason}")


def _training(settings: Settings, curve: _Curve) -> Iterator[Row]:
    """Without a GPU, float64 takes its place: the difference is then the CPU's own rounding."""
    gpu = settings.device.type == "cuda"
    ours = losses(settings, curve, settings.device, torch.float32 if gpu else torch.float64)
    cpus = losses(settings, curve, CPU, torch.float32)
    if not np.isfinite([ours, cpus]).all():
        raise ValueError("a training curve is not finite; there is nothing to compare")
    sides = "GPU against CPU, fp32" if gpu else "float64 against fp32 on the CPU"
    differences, curve_note = np.abs(ours - cpus), f"loss {cpus[0]:.3f} to {cpus[-1]:.3f}"
    for what, value, limit, note in (
        ("first step", float(differences[0]), FIRST_TOLERANCE, ""),
        (f"largest of {curve.steps} steps", float(differences.max()), CURVE_TOLERANCE, curve_note),
    ):
        yield Row(f"difference of loss, {sides}, {what}", value, "", f"at most {limit}", met=value <= limit, note=note)


def losses(settings: Settings, curve: _Curve, device: torch.device, dtype: torch.dtype) -> np.ndarray:
    """float64 [steps]: mean loss of each step on patterns of ten classes; TF32 off."""
    Switches(tf32_convolutions=False).apply()
    batches = []
    for index in range(curve.steps):
        keys = np.arange(curve.batch, dtype=np.uint64) + np.uint64(index * curve.batch)
        labels = keys.astype(np.int64) % _CLASSES
        images = torch.from_numpy(synthetic_images(keys, labels, (curve.image_size, curve.image_size))).permute(
            0, 3, 1, 2
        )
        images = images.contiguous(memory_format=torch.channels_last).to(device, dtype)
        batches.append(ImageMicrobatch(0, images, torch.from_numpy(labels).to(device), keys))
    job = Job(bf16=False, reduction="exact", classes=_CLASSES)
    state, recipe = make_training(settings, job, batches[0].images[:2])
    found = []
    for step in ResidentSource(batches).epoch(0):
        totals = train_step(state, recipe, step, CURVE_RATE)
        found.append(totals.loss / totals.samples)
    return torch.stack(found).cpu().numpy()


def _views(settings: Settings) -> Iterator[Row]:
    """DALI on the device against DALI on the CPU, on all the files there are, up to some hundreds."""
    batch = min(settings.batch, 64)
    with image_files(settings, 2 * batch) as (_, samples):
        some = samples.select(np.linspace(0, len(samples) - 1, min(len(samples), 512)).astype(np.int64))
        made = {}
        for device in (settings.device, CPU):
            with source_on(settings, some, device, batch) as source:
                training = [m.images.cpu() for step in source.epoch(0) for m in step.microbatches]
            with split_on(settings, some, device, batch) as source:
                evaluation = [b.images.cpu() for b in source.batches()]
            made[device] = {"training": torch.cat(training), "evaluation": torch.cat(evaluation)}
    name = f"DALI, {'GPU' if settings.device.type == 'cuda' else 'CPU'} against CPU"
    std = torch.tensor(DataConfig().std).reshape(1, 3, 1, 1)
    for views, images in made[settings.device].items():
        levels = ((images - made[CPU][views]).abs() * std * 255.0).numpy()
        for what, value, limit in (
            ("mean", float(levels.mean()), MEAN_LIMIT),
            ("99.9th percentile", float(np.quantile(levels, 0.999)), TAIL_LIMIT),
        ):
            yield Row(f"{name}, {views} views, {what}", value, "levels", f"at most {limit}", met=value <= limit)
