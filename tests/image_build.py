"""The image, built where no registry is in reach: buildah, on a base that debootstrap makes of Debian's packages."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.kube.manifests import load_job
from tests.pod_sandbox import ROOT, Pod

IMAGE = ROOT / "k8s" / "image"
SUITE = "bookworm"
"""Of Debian: the Dockerfile's own base has it, and its Python is 3.11 as there."""
PYTHON = ("python3", "python3-pip", "python3-venv", "python-is-python3")
SOURCES = """\
Types: deb
URIs: http://deb.debian.org/debian
Suites: {suite} {suite}-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: {suite}-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
"""As Docker's images of Debian have them."""
# What a build that is given up has mounted and started ends with these.
CONTAINED = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
# Of all that buildah writes, the only thing that no option moves is a cache there.
WITHOUT_CACHE = 'mkdir -p /var/lib/containers && mount -t tmpfs tmpfs /var/lib/containers && exec "$@"'


def hindrance(folder: Path, free_gb: float = 40.0) -> str:
    """Why an image cannot be built below `folder`; empty if it can."""
    missing = [tool for tool in ("buildah", "debootstrap", "unshare") if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)}: apt-get install buildah debootstrap"
    if os.geteuid() != 0:
        return "needs root"
    if subprocess.run([*CONTAINED, "true"], capture_output=True).returncode:
        return "needs namespaces that it may make"
    free = shutil.disk_usage(folder).free / 1e9
    if free < free_gb:
        return f"needs {free_gb:.0f} GB of disk, {free:.0f} GB are free at {folder}"
    return "" if debian_mirror() else f"needs a mirror of Debian {SUITE} among the sources of apt"


def debian_mirror() -> str:
    """Where this machine's apt has Debian's packages from: the address above debian/; empty if from nowhere."""
    ask = ["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Identifier: Packages"]
    done = subprocess.run(ask, capture_output=True, text=True) if shutil.which("apt-get") else None
    found = re.search(rf"^{SUITE} (\S+)/debian/$", done.stdout if done else "", re.MULTILINE)
    return found[1] if found else ""


@dataclass(frozen=True)
class PipSettings:
    """How this machine's pip reaches an index of packages."""

    text: str
    """A pip.conf."""
    paths: tuple[Path, ...]
    """The files and folders that it names."""


def pip_settings() -> PipSettings:
    """This machine's, as `pip config` has them from files and from the environment."""
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True)
    settings: dict[str, str] = {}
    # A command's own section is weaker than the environment, which is listed first.
    for section, name, value in re.findall(r"^(\S+?)\.([\w-]+)=(.*)$", done.stdout, re.MULTILINE):
        if section in (":env:", "global") and name in ("index-url", "extra-index-url", "find-links", "cert", "proxy"):
            settings.setdefault(name, " ".join(ast.literal_eval(value).split()))
    places = [place.removeprefix("file://") for value in settings.values() for place in value.split()]
    # The pages of an index name files beside it.
    paths = {
        Path(each).parent if each.rstrip("/").endswith("/simple") else Path(each) for each in places if each[0] == "/"
    }
    lines = [f"{name} = {value}\n" for name, value in settings.items()]
    return PipSettings("".join(["[global]\n", *lines]), tuple(sorted(paths)))


class Buildah:
    """buildah, with all that it keeps in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tmp").mkdir()

    def __call__(self, verb: str, *arguments: str | Path, timeout_s: float = 300.0) -> str:
        """Run a verb and return what it says. Raises AssertionError with its last words where it fails."""
        own = ["--storage-driver", "vfs", "--root", self.folder / "storage", "--runroot", self.folder / "run"]
        return self.run(["buildah", *own, verb, *arguments], timeout_s)

    def run(self, command: Sequence[str | Path], timeout_s: float) -> str:
        """Run any command so that nothing of it outlives it."""
        environment = os.environ | {"TMPDIR": str(self.folder / "tmp"), "BUILDAH_ISOLATION": "chroot"}
        done = subprocess.run(
            [*CONTAINED, "sh", "-c", WITHOUT_CACHE, "sh", *command],
            capture_output=True, text=True, env=environment, cwd=ROOT, timeout=timeout_s,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout.strip()

    def stand_in_base(self) -> str:
        """Make an image that can stand for the Dockerfile's own base, and return its name."""
        name = self("from", "scratch")
        root = Path(self("mount", name))
        packages = f"--include={','.join(('ca-certificates', *PYTHON))}"
        address = f"{debian_mirror()}/debian"
        self.run(["debootstrap", "--variant=minbase", packages, SUITE, root, address], timeout_s=900)
        (root / "etc/apt/sources.list").unlink()
        (root / "etc/apt/sources.list.d/debian.sources").write_text(SOURCES.format(suite=SUITE))
        shutil.rmtree(root / "var/cache/apt/archives")
        self("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", name)
        self("commit", "--rm", name, "localhost/stand-in")
        return "localhost/stand-in"

    def build(self, base: str, target: str, extras: str, timeout_s: float) -> str:
        """Build a target of the Dockerfile and return the image's name."""
        pip = pip_settings()
        (self.folder / "pip.conf").write_text(pip.text)
        arguments = {"BASE": base, "DEBIAN_MIRROR": debian_mirror(), "EXTRAS": extras}
        given = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
        volumes = [word for path in pip.paths for word in ("--volume", f"{path}:{path}:ro")]
        image = f"localhost/resnet-dist-{target}-{extras}"
        self(
            "bud", "--isolation", "chroot", "--layers=false", "--pull-never", *given, *volumes,
            "--secret", f"id=pip,src={self.folder / 'pip.conf'}",
            "-f", IMAGE / "Dockerfile", "--target", target, "-t", image, ROOT, timeout_s=timeout_s,
        )  # fmt: skip
        return image

    @contextmanager
    def pod(self, image: str, storage: Path, inside: str, job: str = "") -> Generator[Pod]:
        """A pod of a copy of the image, with the security context and the volumes of a training's head."""
        config = json.loads(self("inspect", "--type", "image", image))["OCIv1"]["config"]
        assert config["User"] == "1000:1000"
        environment = dict(each.split("=", 1) for each in config["Env"])
        (ray_job,) = [each for each in load_job("train") if each["kind"] == "RayJob"]
        spec = ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
        name = self("from", "--pull-never", image)
        try:
            files = Path(self("mount", name))
            yield Pod(spec, environment, job, inside, files, Path(config["WorkingDir"]), storage)
        finally:
            self("rm", name)
