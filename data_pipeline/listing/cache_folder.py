"""Where what can be made again is kept between starts."""

import os
import tempfile
from pathlib import Path

from data_pipeline.config import DataConfig


def cache_folder(data: DataConfig) -> Path | None:
    """`data.cache_dir`, else this user's folder for caches; None for a user without a home."""
    if data.cache_dir:
        return Path(data.cache_dir).expanduser()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "resnet-dist")
    except RuntimeError:  # pathlib's word for no home folder
        return None


def write_cached(path: Path, content: bytes) -> bool:
    """Write a file whole or, where there is no room or no right to, not at all: it can be made again. Whether it is
    written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".part-", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(content)
                file.close()
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError:
        return False
    return True
