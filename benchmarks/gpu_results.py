"""The file that `benchmarks/gpu.py` writes, and its table."""

import json
import os
import platform
import re
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_measuring import Row, Settings

SCHEMA = 1
Results = dict[str, Any]


def device_name(device: torch.device) -> str:
    """As the driver calls it; "CPU" without one."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def default_file(settings: Settings) -> Path:
    """benchmarks/results/<gpu name>.json; a file of its own for what `--tiny` gives."""
    slug = re.sub(r"[^a-z0-9]+", "-", device_name(settings.device).lower()).strip("-")
    return Path(__file__).parent / "results" / f"{slug}{'-tiny' if settings.tiny else ''}.json"


def environment(device: torch.device) -> dict[str, Any]:
    """What a figure depends on besides the code."""
    gpu = device.type == "cuda"
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "driver": _driver(device) if gpu else None,
        "memory_bytes": torch.cuda.get_device_properties(device).total_memory if gpu else None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "python": platform.python_version(),
        "cpus": len(os.sched_getaffinity(0)),
    }


def read(file: Path, settings: Settings) -> Results:
    """The results so far, to which sections are added. Raises ValueError where they belong to something else."""
    own = {"schema": SCHEMA, "device": device_name(settings.device), "tiny": settings.tiny}
    if not file.exists():
        return own | {"sections": {}}
    try:
        held = json.loads(file.read_text())
        found = {key: held[key] for key in own}
        sections = held["sections"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no file of this benchmark ({error!r}); name another with --out") from error
    if found != own:
        raise ValueError(f"{file} holds {found}, this run would add {own}; name another file with --out")
    return own | {"sections": sections}


def section(settings: Settings, status: str, reason: str, seconds: float, rows: list[Row]) -> dict[str, Any]:
    """A section as it is stored, with the environment and the settings of its own run."""
    used = {
        "repeats": settings.repeats,
        "steps": settings.steps,
        "warm_up": settings.warm_up,
        "arch": settings.arch,
        "image_size": settings.image_size,
        "batches": list(settings.batches),
        "batch": settings.batch,
        "compiler": settings.compiler,
        "images": None if settings.images is None else str(settings.images),
        "threads": settings.threads,
    }
    return {
        "status": status,
        "reason": reason,
        "seconds": round(seconds, 1),
        "environment": environment(settings.device),
        "settings": used,
        "rows": [asdict(row) for row in rows],
    }


def write(file: Path, results: Results) -> None:
    """Whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(json.dumps(results, indent=2) + "\n")
    partial.replace(file)


def table(results: Results) -> str:
    """All sections of the file, each figure next to its reference."""
    lines = [("section", "what", "median", "unit", "reference", "")]
    for name, held in results["sections"].items():
        lines += [_line(name, Row(**row)) for row in held["rows"]]
        if held["status"] != "done":
            lines.append((name, f"{held['status']}: {held['reason']}", "", "", "", ""))
    widths = [min(max(len(line[column]) for line in lines), 48) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column == 2 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _line(name: str, row: Row) -> tuple[str, str, str, str, str, str]:
    value = "-" if row.value is None else f"{row.value:,.4g}" if abs(row.value) < 1000 else f"{row.value:,.0f}"
    verdict = {None: "", True: "met", False: "missed"}[row.met]
    return (name, row.what, value, row.unit, row.reference, "; ".join(filter(None, (verdict, row.note))))


def _driver(device: torch.device) -> str | None:
    """The NVIDIA driver's version; None where nvidia-smi does not say."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", f"--id={device.index or 0}"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
