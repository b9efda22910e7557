"""How a BUNDLE argument of a command that works on this machine finds its folder."""

from pathlib import Path

from ray_jobs.errors import ConfigError
from resnet_dist.runtime.bundle import MANIFEST


def local_bundle(argument: str, storage_root: str) -> Path:
    """A folder, a run's folder, or the name of a run under the storage root; whether it holds a bundle is not seen to.

    Raises ConfigError for a URI: a bundle is used where its files are.
    """
    place = Path(argument).expanduser()
    if "://" in argument:
        raise ConfigError(f"{argument} is no folder of this machine; fetch it: resnet-dist pull {argument} --to DIR")
    if place.exists() or "/" in argument or "://" in storage_root:
        return place
    named = Path(storage_root).expanduser() / "runs" / argument
    return named if (named / "bundle" / MANIFEST).is_file() else place
