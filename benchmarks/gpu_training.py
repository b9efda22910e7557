"""Sections that time training steps: full fine-tuning, precisions, frozen trunks, cached features, options."""

import statistics
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_job import Job, noise, training
from benchmarks.gpu_measuring import (
    Makers,
    Row,
    Settings,
    Switches,
    Turns,
    Variant,
    compiler_lacks,
    form_name,
    gigabytes,
    take_turns,
)
from resnet_dist.model.resnet import STAGES, build_model
from resnet_dist.model.structure import Structure
from resnet_dist.model.trunk import split

FULL_REFERENCES = {"A100": 2470.0, "H100": 7190.0, "H200": 8000.0}
"""Images/s of ResNet-50 training at 224 px: NVIDIA's DeepLearningExamples with PyTorch AMP on an A100, and MLPerf
Training's MXNet fp16 submissions a GPU."""
FULL_REFERENCE = "A100 2,470 (PyTorch AMP), 3,410 (MXNet); H100 7,190 (MLPerf), H200 8,000"
PRECISION_REFERENCE = "1.4 claimed; 2.6 seen on A100"
FROZEN_FLOPS = {2: 1.16, 3: 1.44, 4: 2.21, 5: 2.97}
"""Speed-up by freeze depth if a ResNet-50 step took as long as its multiplications."""
FROZEN_TRAFFIC = {2: 1.7, 3: 2.9, 4: 5.5, 5: 7.5}
"""Speed-up by freeze depth if it took as long as its memory traffic."""
CACHED_FLOPS = {4: 5.45}
"""Speed-up by freeze depth by multiplications, where the trunk is not computed at all."""
OPTION_LIMIT_PERCENT = 1.0

_AUTOTUNED = Switches(deterministic=False)


def full(settings: Settings) -> Iterator[Row]:
    """Full fine-tuning at several batches: images/s, share of the card's own bf16 rate, peak memory."""
    lacks = compiler_lacks(settings)
    rates = _bf16_product_rates(settings)
    peak = statistics.median(rates)
    yield Row("bf16 matrix product", peak / 1e12, "TFLOP/s", "data sheet, dense: A100 312, H100 SXM 989",
              repeats=tuple(rate / 1e12 for rate in rates))  # fmt: skip
    flops = flops_per_image(settings)
    yield Row("operations of a training step", flops / 1e9, "GFLOP/image", "ResNet-50 at 224 px: 24.3")

    best = _reference_of_card(settings)
    makers: Makers = {}
    names: list[tuple[str, int, str]] = []
    for batch in settings.batches:
        source = noise(settings, batch)
        for form, job in {
            "eager": Job(),
            "eager, autotuned": Job(switches=_AUTOTUNED),
            "compiled": Job(compiled=True),
            "compiled, autotuned": Job(compiled=True, switches=_AUTOTUNED),
        }.items():
            name = f"batch {batch}, {form}"
            names.append((name, batch, "" if not job.compiled else lacks))
            if not names[-1][2]:
                makers[name] = partial(training, settings, job, source)
    found = take_turns(settings, makers)
    for name, batch, reason in names:
        turns = found.get(name, Turns(problem=reason))
        speeds = [batch / seconds for seconds in turns.seconds]
        row = turns.row(name, "images/s", speeds, FULL_REFERENCE)
        yield replace(row, met=None if best is None or row.value is None else row.value >= best)
        if turns.problem:
            continue
        shares = [100.0 * speed * flops / peak for speed in speeds]
        yield turns.row(f"{name}: of the bf16 rate", "%", shares, "memory-bound: about 10,000 images/s on H100")
        yield turns.row(f"{name}: peak memory", "GB", gigabytes(turns))


def precision(settings: Settings) -> Iterator[Row]:
    """bf16 autocast against fp32 with TF32 off and on, eager."""
    source = noise(settings, settings.batch)
    jobs = {
        "fp32": Job(bf16=False, switches=Switches(tf32_convolutions=False)),
        "fp32 with TF32": Job(bf16=False, switches=Switches(tf32_products=True)),
        "bf16": Job(),
    }
    found = take_turns(settings, {name: partial(training, settings, job, source) for name, job in jobs.items()})
    for name, turns in found.items():
        yield turns.row(name, "images/s", [settings.batch / seconds for seconds in turns.seconds])
    for other, least in (("fp32", 1.4), ("fp32 with TF32", None)):
        row = found["bf16"].ratio(f"bf16 over {other}", found[other], PRECISION_REFERENCE if least else "")
        yield replace(row, met=None if least is None or row.value is None else row.value >= least)


def frozen(settings: Settings) -> Iterator[Row]:
    """Speed-up over full fine-tuning by freeze depth: trunk without autograd, BatchNorm folded."""
    yield from _speed_ups(settings, range(1, len(STAGES)), cached=False)


def cached(settings: Settings) -> Iterator[Row]:
    """Speed-up over full fine-tuning where the trunk's features are stored, and what storing them takes."""
    depths = range(3, len(STAGES))
    yield from _speed_ups(settings, depths, cached=True)
    source = noise(settings, 2)
    model = build_model(Structure(settings.arch), 2, 0.0, seed=0).to(settings.device)
    for depth in depths:
        trunk, _ = split(model, depth)
        assert trunk is not None
        size = source.features(trunk, bf16=True).bytes_per_sample * 10_000 / 1e9
        yield Row(f"{_through(depth)}: bf16 features of 10,000 images", size, "GB")


def options(settings: Settings) -> Iterator[Row]:
    """What each option adds to a full fine-tuning step, eager."""
    source = noise(settings, settings.batch)
    jobs = {
        "none": Job(),
        "EMA": Job(ema_decay=0.999),
        "label smoothing": Job(label_smoothing=0.1),
        "mixup": Job(mixup_alpha=0.2),
        "clipping": Job(clip_norm=1.0),
        "exact reduction": Job(reduction="exact"),
        "activation checkpointing": Job(checkpointing=True),
    }
    found = take_turns(settings, {name: partial(training, settings, job, source) for name, job in jobs.items()})
    none = found.pop("none")
    yield none.row("none", "images/s", [settings.batch / seconds for seconds in none.seconds])
    for name, turns in found.items():
        culprit = turns if turns.problem else none
        costs = [] if culprit.problem else [100.0 * (ratio - 1.0) for ratio in none.over(turns)]
        free = name not in ("activation checkpointing", "exact reduction")
        row = culprit.row(f"{name}: added time", "%", costs, "under 1" if free else "")
        note = row.note
        yield replace(row, note=note, met=row.value < OPTION_LIMIT_PERCENT if free and row.value is not None else None)
    saving = found["activation checkpointing"]
    culprit = saving if saving.problem else none
    pairs = zip(none.peak_bytes, saving.peak_bytes, strict=True) if not culprit.problem else ()
    yield culprit.row("activation checkpointing: memory saved", "%", [100.0 * (1.0 - b / a) for a, b in pairs])


def flops_per_image(settings: Settings) -> float:
    """Multiplications and additions of a forward and backward pass over one image, counted without computing them."""
    model = build_model(Structure(settings.arch), 1000, 0.0, seed=0).to("meta")
    images = torch.empty((2, 3, settings.image_size, settings.image_size), device="meta")
    with FlopCounterMode(display=False) as counter:
        model(images).sum().backward()
    return counter.get_total_flops() / 2


def _speed_ups(settings: Settings, depths: range, cached: bool) -> Iterator[Row]:
    lacks = compiler_lacks(settings)
    source = noise(settings, settings.batch)
    makers: Makers = {}
    # Tracing takes most of a tiny run: one depth shows whether it works.
    forms = {False: depths, True: depths[:1] if settings.tiny else depths}
    for form, tried in forms.items():
        if form and lacks:
            continue
        jobs = {0: Job(compiled=form)} | {d: Job(freeze_depth=d, compiled=form, cached=cached) for d in tried}
        makers |= {_key(depth, form): partial(training, settings, job, source) for depth, job in jobs.items()}
    found = take_turns(settings, makers)
    skipped = Turns(problem=lacks)
    for form, tried in forms.items():
        base = found.get(_key(0, form), skipped)
        yield base.row(f"nothing, {form_name(form)}", "images/s", [settings.batch / s for s in base.seconds])
        for depth in tried:
            flops = (CACHED_FLOPS if cached else FROZEN_FLOPS).get(depth)
            reference = "" if flops is None else f"{flops} by FLOP count"
            if flops is not None and not cached:
                reference += f", {FROZEN_TRAFFIC[depth]} by memory traffic"
            row = found.get(_key(depth, form), skipped).ratio(f"{_through(depth)}, {form_name(form)}", base, reference)
            yield replace(row, met=None if flops is None or row.value is None else row.value >= flops)


def _key(depth: int, form: bool) -> str:
    return f"{depth} {form_name(form)}"


def _through(depth: int) -> str:
    return f"depth {depth} (through {STAGES[depth - 1]})"


def _reference_of_card(settings: Settings) -> float | None:
    """Images/s to reach on this card, for the network that the references are of."""
    if settings.device.type != "cuda" or settings.tiny:
        return None
    name = torch.cuda.get_device_name(settings.device)
    return next((speed for card, speed in FULL_REFERENCES.items() if card in name), None)


def _bf16_product_rates(settings: Settings) -> list[float]:
    """Floating-point operations a second of a square bf16 matrix product, by turn."""
    size = 64 if settings.tiny else 8192
    left, right = (torch.randn((size, size), device=settings.device, dtype=torch.bfloat16) for _ in range(2))
    turns = take_turns(replace(settings, steps=50), {"product": lambda: Variant(lambda: left @ right)})["product"]
    if turns.problem:
        raise RuntimeError(f"the bf16 matrix product gave no rate ({turns.problem}); nothing can be set against it")
    return [2.0 * size**3 / seconds for seconds in turns.seconds]
