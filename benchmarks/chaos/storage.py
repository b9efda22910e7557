"""A small file system of its own, so that a disk can be full or read-only for one run alone."""

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_MEGABYTES = 1500


@contextmanager
def small_disk(folder: Path) -> Generator[Path | None]:
    """A tmpfs at `folder`; None where mounting is not permitted, which is said."""
    folder.mkdir(parents=True)
    options = f"size={_MEGABYTES}m"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    mounted = subprocess.run(command, check=False, capture_output=True)
    if mounted.returncode:
        print(f"no full and no read-only disk: {mounted.stderr.decode().strip()}")
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
