"""A virtual environment with what the base install brings and nothing more: no torch, no Ray, no pyarrow.

Made from the packages of the environment that runs this, by links, so that no package index is needed.
"""

import os
import subprocess
import sys
import venv
from importlib.metadata import Distribution, distribution, requires
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
NAME = "resnet-dist"


def base_distributions() -> dict[str, Distribution]:
    """What `pip install resnet-dist` would install besides itself: its requirements and theirs, without extras."""
    found: dict[str, Distribution] = {}
    waiting = list(requires(NAME) or ())
    while waiting:
        wanted = Requirement(waiting.pop())
        key = wanted.name.lower().replace("_", "-")
        is_asked = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        if is_asked and key not in found:
            found[key] = distribution(wanted.name)
            waiting += found[key].requires or ()
    return found


def make_base_environment(folder: Path) -> Path:
    """Build this project's wheel and install it into a new environment in `folder`; returns its Python."""
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    python = folder / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip())
    for each in base_distributions().values():
        for top in {file.parts[0] for file in each.files or () if file.parts[0] not in ("..", "__pycache__")}:
            source, link = Path(str(each.locate_file(top))), packages / top
            if source.exists() and not link.exists():
                link.symlink_to(source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = {**os.environ, "PIP_NO_INDEX": "1", "PIP_NO_INPUT": "1"}
    wheels = folder / "wheels"
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, ROOT]
    subprocess.run([*pip, *build], check=True, capture_output=True, env=offline)
    (wheel,) = wheels.glob("*.whl")
    install = ["--python", python, "install", "--no-deps", wheel]
    subprocess.run([*pip, *install], check=True, capture_output=True, env=offline)
    return python
