"""The walk of docs/first-hour.md, whole: its commands do what the page shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PAGE = Path(__file__).parents[2] / "docs/first-hour.md"
ROOT = PAGE.parents[1]
_NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
_DIGEST = r"\b[0-9a-f]{12}\b"


def photographs(root: Path) -> None:
    """The page's folder: dark marks tell the classes, and one file is cut off."""
    draw = np.random.default_rng(0)
    for name, count in {"good": 60, "scratched": 40, "verkürzt": 3}.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            image = 120 + draw.normal(0, 12, (96, 128, 3))
            if name == "scratched":
                row = draw.integers(10, 80)
                image[row : row + 5, 20:110] += 90
            if name == "verkürzt":
                image[:, 70:] = 20
            Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(root / name / f"{number:03d}.jpg", quality=90)
    path = root / "scratched/007.jpg"
    path.write_bytes(path.read_bytes()[:1500])


def sessions(page: str) -> list[tuple[str, list[str]]]:
    """Each command of the page with the lines that it prints."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line.removeprefix("$ "), []))
            elif line.strip():
                found[-1][1].append(line)
    return found


def shape(line: str, folder: Path) -> str:
    """A line without what differs from run to run: numbers, digests, the folder, the widths of columns."""
    line = re.sub(_DIGEST, "N", line.replace(str(folder), "/home/ada"))
    return " ".join(re.sub(_NUMBER, "N", line).split())


@pytest.mark.timeout(600)
def test_the_page_is_what_happens(tmp_path: Path):
    page = PAGE.read_text()
    photographs(tmp_path / "photos")
    for name, text in re.findall(r"```toml\n# (\S+)\n(.*?)```", page, re.DOTALL):
        (tmp_path / name).write_text(text)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "100",
    }
    said = sessions(page)
    assert len(said) > 5
    for command, expected in said:
        codes = re.search(r"# ends with (\d+)$", command)
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        printed = done.stdout + done.stderr
        print(f"$ {command}\n{printed}")
        assert done.returncode == (int(codes[1]) if codes else 0), printed
        shapes = [shape(line, tmp_path) for line in printed.splitlines()]
        at = 0
        for line in (line for line in expected if line.strip() != "..."):
            assert shape(line, tmp_path) in shapes[at:], f"{command!r} does not print: {line}"
            at += shapes[at:].index(shape(line, tmp_path)) + 1
