"""`resnet-dist pull`: a bundle comes from storage into a folder that is complete or absent at any time."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import StorageError
from cluster.storage.folder_swap import fresh_folder, put_in_place
from cluster.storage.store import Store
from ray_jobs.bundles.registry import StoredBundle, find_bundle, find_promoted
from ray_jobs.errors import ConfigError
from ray_jobs.run.argument import names_a_place
from resnet_dist.runtime.bundle import MANIFEST, SIGNATURE, Bundle
from resnet_dist.runtime.errors import BundleError


@dataclass(frozen=True)
class PullOutcome:
    """A bundle in a folder of this machine."""

    folder: Path
    source: str
    digest: str
    changed: bool
    """False where the folder held it already."""
    is_signed: bool
    """Whether the signature was checked."""
    formats: tuple[str, ...]


def run_pull(name: str, to: Path, storage_root: str = "outputs", verify_key: Path | None = None) -> PullOutcome:
    """Fetch NAME, NAME@DIGEST, or the bundle of a path or URI into the folder `to`.

    Every file is verified, with `verify_key` (a PEM file) the signature too, before the folder appears under its name.
    A folder that holds the same bundle, undamaged, stays. Raises StorageError, BundleError, RunError and
    RuntimeMissingError for what cannot be used, ConfigError where `to` holds anything else than a bundle.
    """
    target = to.expanduser().absolute()
    _check_target(target)
    source = find_bundle(name, storage_root) if names_a_place(name) else find_promoted(name, storage_root)
    is_signed, formats = verify_key is not None, tuple(source.manifest.formats)
    if _holds(target, source, verify_key):
        return PullOutcome(target, source.store.uri, source.digest, False, is_signed, formats)
    _refuse_others_files(target, source)
    with fresh_folder(target) as folder:
        _fetch(source, Store.open(str(folder)))
        Bundle.open(folder, verify_key).verify()
        put_in_place(folder, target)
    return PullOutcome(target, source.store.uri, source.digest, True, is_signed, formats)


def _fetch(source: StoredBundle, into: Store) -> None:
    for path in source.manifest.files:
        into.write(path, source.read(path))
    if (signature := source.signature()) is not None:
        into.write(SIGNATURE, signature)
    into.write(MANIFEST, source.text)


def _holds(target: Path, source: StoredBundle, verify_key: Path | None) -> bool:
    if not (target / MANIFEST).is_file():
        return False
    try:
        if StoredBundle.open(Store.open(str(target))).digest != source.digest:
            return False
        Bundle.open(target, verify_key).verify()
    except BundleError:
        return False  # damaged, or not signed: what is in storage may be whole
    return True


def _check_target(target: Path) -> None:
    """Nothing that is no bundle is ever replaced."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ConfigError(f"--to {target} is a link or a file; name a folder, which is made")
    with suppress(FileNotFoundError):
        names = sorted(path.name for path in target.iterdir())
        if names and not (target / MANIFEST).is_file():
            raise ConfigError(f"--to {target} holds {names[0]!r} and no bundle; name a folder of its own")


def _refuse_others_files(target: Path, source: StoredBundle) -> None:
    """What is exchanged is removed with all that is in it: that must be a bundle, damaged or not, and nothing else."""
    known = {*source.manifest.files, MANIFEST, SIGNATURE}
    with suppress(BundleError, StorageError):  # a damaged one does not say what its files are
        known |= set(StoredBundle.open(Store.open(str(target))).manifest.files)
    for path in sorted(target.rglob("*")):
        name = path.relative_to(target).as_posix()
        if name not in known and (path.is_symlink() or not path.is_dir()):
            raise ConfigError(
                f"--to {target} holds {name!r}, which is of no bundle; move it away, or name another folder"
            )
