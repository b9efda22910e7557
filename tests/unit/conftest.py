"""What unit tests share: nothing may be left behind; a search.json of any size and kind; a disk that is soon full."""

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.leaks import police  # noqa: F401 - for all tests here

SPACE: list[dict[str, Any]] = [
    {"field": "optimizer.learning_rate", "kind": "log_uniform", "low": 1e-4, "high": 0.3},
    {"field": "optimizer.weight_decay", "kind": "log_uniform", "low": 1e-6, "high": 1e-2},
    {"field": "schedule.kind", "kind": "categorical", "choices": ["cosine", "one_cycle", "plateau"]},
    {
        "field": "schedule.peak_fraction", "kind": "uniform", "low": 0.1, "high": 0.6,
        "when": {"schedule.kind": ["one_cycle"]},
    },
    {"field": "freezing.freeze_depth", "kind": "int", "low": 0, "high": 5},
    {"field": "model.squeeze_excite", "kind": "categorical", "choices": [True, False]},
    {"field": "augmentation.mixup", "kind": "uniform", "low": 0.0, "high": 0.4},
]  # fmt: skip
OBJECTIVES = [
    {"metric": "val/macro_f1", "direction": "maximize"},
    {"metric": "latency_ms", "direction": "minimize"},
    {"metric": "parameters", "direction": "minimize"},
]


def _draw(chance: random.Random, field: dict[str, Any]) -> Any:
    low, high = field.get("low", 0), field.get("high", 0)
    match field["kind"]:
        case "categorical":
            return chance.choice(field["choices"])
        case "int":
            return chance.randint(low, high)
        case "log_uniform":
            return low * (high / low) ** chance.random()
        case _:
            return chance.uniform(low, high)


def _trial(
    number: int, chance: random.Random, space: list[dict[str, Any]], objectives: int, slots: int
) -> dict[str, Any]:
    params = {field["field"]: _draw(chance, field) for field in space}
    for field in space:
        if any(params.get(name) not in values for name, values in (field.get("when") or {}).items()):
            del params[field["field"]]
    state = (
        "finished" if number == 0 else chance.choices(["finished", "stopped", "diverged", "failed"], [5, 8, 1, 1])[0]
    )
    epochs = {"finished": 12, "stopped": chance.choice([1, 3, 6]), "diverged": 2, "failed": 0}[state]
    top = 0.95 - 0.1 * chance.random() - 0.05 * params.get("freezing.freeze_depth", 0) / 5
    history = [
        {"epoch": epoch, "val/macro_f1": top * (1 - 0.6 * 0.6**epoch), "val/loss": 2 * 0.7**epoch + (1 - top)}
        | ({"train/loss": "nan"} if state == "diverged" and epoch == epochs else {"train/loss": 1.8 * 0.7**epoch})
        for epoch in range(1, epochs + 1)
    ]
    value = history[-1]["val/macro_f1"] if history and state != "diverged" else None
    latency = 4 + 6 * chance.random() + 20 * (top - 0.8)
    values = [
        value,
        None if value is None else latency,
        None if value is None else round(1.1e7 + 1e6 * chance.random()),
    ]
    started = (number // slots) * 62 + chance.random() * 8 + 5
    return {
        "number": number, "digest": f"{chance.getrandbits(64):016x}", "state": state, "is_default": number == 0,
        "params": params, "values": values[:objectives], "history": history, "epochs": epochs,
        "reused_record": number % 9 == 8, "slot": number % slots, "queued_s": max(started - 6, 0), "started_s": started,
        "ended_s": started + 6 + epochs * 4, "error": "CUDA out of memory" if state == "failed" else "",
    }  # fmt: skip


def _make_search(trials: int = 12, objectives: int = 1, space: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    chance = random.Random(trials)
    fields = SPACE if space is None else space
    made = [_trial(number, chance, fields, objectives, 4) for number in range(trials)]
    finished = [trial for trial in made if trial["state"] == "finished"]
    # Each against each: among the first ones only, where they are many.
    valued = [trial for trial in made if trial["values"][0] is not None][:1000]

    def is_beaten(trial: dict[str, Any]) -> bool:
        costs = [[-each["values"][0], *each["values"][1:]] for each in valued if each is not trial]
        own = [-trial["values"][0], *trial["values"][1:]]
        return any(all(a <= b for a, b in zip(cost, own, strict=True)) and cost != own for cost in costs)

    wall = max((trial["ended_s"] for trial in made), default=0)
    training = sum(trial["ended_s"] - trial["started_s"] for trial in made)
    return {
        "schema": 1, "name": "casting-defects", "made": "2026-11-24T16:00:00+00:00",
        "job": {"arch": "resnet50", "epochs": 12, "image_size": [224, 224], "train": 4200, "val": 900, "classes": 7},
        "objectives": OBJECTIVES[:objectives],
        "latency": {"how": "eager, cpu, 1 thread, batch 1"} if objectives > 1 else None,
        "space": fields, "sampler": "tpe", "scheduler": "asha", "slots": 4, "workers_per_trial": 1, "trials": made,
        "best": max(finished, key=lambda trial: trial["values"][0])["number"] if finished else None,
        "front": [trial["number"] for trial in valued if not is_beaten(trial)],
        "importance": {field["field"]: 0.5 / 2**index for index, field in enumerate(fields)} if trials > 3 else None,
        "pool": {"slots": 4, "wall_s": wall, "startup_s": 30.0, "waiting_s": 6.0 * trials, "training_s": training},
        "reuse": {"hits": 310, "misses": 42, "stored_bytes": 812_345_678, "saved_s": 431.5},
        "epochs": {"trained": sum(trial["epochs"] for trial in made), "full_search": 12 * trials},
        "test": {
            "metric": "macro_f1", "best": 0.912, "best_interval": [0.894, 0.93], "default": 0.88,
            "default_interval": [0.859, 0.902], "difference": 0.032, "difference_interval": [0.011, 0.054],
            "samples": 905,
        } if trials > 3 else None,
    }  # fmt: skip


@pytest.fixture(scope="session")
def make_search() -> Callable[..., dict[str, Any]]:
    """A search.json: how many trials, how many objectives (1..3), and over which space."""
    return _make_search


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    mounted = subprocess.run(command, capture_output=True, text=True) if os.geteuid() == 0 else None
    if mounted is None or mounted.returncode:
        pytest.skip(f"mounting a small file system: {mounted.stderr.strip() if mounted else 'needs root'}")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)
