"""How a BUNDLE argument of a command that works on this machine finds its folder."""

from pathlib import Path

from cluster.storage.credentials import refuse_credentials
from ray_jobs.errors import ConfigError
from ray_jobs.run.argument import hint_at_folder, names_a_place
from resnet_dist.runtime.bundle import BUNDLE, MANIFEST
from resnet_dist.runtime.errors import BundleError


def local_bundle(argument: str, storage_root: str | None = None) -> Path:
    """A bundle's folder, a run's folder, or the bare name of a run under a storage root that is a folder; by
    default the default one. A bare name is never a path: ./NAME is.

    Raises ConfigError for a URI, since a bundle is used where its files are; StorageError for one that holds a secret;
    BundleError where a bare name is neither.
    """
    for setting, place in (("BUNDLE", argument), ("storage.root", storage_root or "")):
        refuse_credentials(place, setting)
    if "://" in argument:
        raise ConfigError(f"{argument} is no folder of this machine; fetch it: resnet-dist pull {argument} --to DIR")
    if names_a_place(argument):
        return Path(argument).expanduser()
    if storage_root is None:
        from cluster.config import StorageConfig  # noqa: PLC0415 - pydantic's models, for a default

        storage_root = StorageConfig().root
    if "://" in storage_root:
        raise ConfigError(
            f"{argument!r} names a run, and storage.root={storage_root} is a URI; fetch the bundle with "
            "`resnet-dist pull`, and give its folder" + hint_at_folder(argument)
        )
    run = Path(storage_root).expanduser() / "runs" / argument
    if not (run / BUNDLE / MANIFEST).is_file():
        raise BundleError(
            f"{run} has no bundle; export the run first, or give the bundle's folder" + hint_at_folder(argument)
        )
    return run / BUNDLE
