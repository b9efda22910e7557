"""Where what can be made again is kept between starts."""

import os
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
