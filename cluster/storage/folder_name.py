"""The last part of a path or URI as a name that any file system and any command line takes."""

import re
from pathlib import PurePosixPath


def folder_name(place: str) -> str:
    """Letters, digits, ".", "_" and "-"; "data" where nothing of those is left. A URI's options are not part of it."""
    path = place.partition("?")[0] if "://" in place else place
    return re.sub(r"[^A-Za-z0-9._-]+", "-", PurePosixPath(path).name).strip(".-") or "data"
