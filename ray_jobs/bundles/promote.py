"""`resnet-dist promote`: puts a run's bundle into production, or the bundle that was there before."""

import hashlib
from dataclasses import dataclass

from cluster.storage.store import Store
from ray_jobs.bundles.registry import BundleRegistry, PromotedVersion, StoredBundle, find_bundle
from ray_jobs.errors import ConfigError, GateError
from resnet_dist.runtime.bundle import MANIFEST, SIGNATURE


@dataclass(frozen=True)
class Promotion:
    """The outcome of a promotion: the version in production now."""

    name: str
    uri: str
    """Of the bundle."""
    digest: str
    previous: str | None
    """Digest of what was in production before."""
    changed: bool
    """Whether something else is in production than before."""
    formats: tuple[str, ...]
    refused: dict[str, str]
    """Formats that are not in the bundle, and why."""


def run_promote(
    run: str, name: str | None = None, storage_root: str = "outputs", *, accept_inconclusive: bool = False
) -> Promotion:
    """Copy a run's bundle to where it is pulled from by `name`, by default its own, and point at it.

    Every file is verified on its way; a bundle that is there already is verified and repaired. Formats that are
    inconclusive are left out, unless `accept_inconclusive`: then the digest is another one than the run's bundle has.
    Raises RunError, BundleError, StorageError or ConfigError for what cannot be used, GateError where no format would
    be left, or where one would be left out of a signed bundle.
    """
    source = find_bundle(run, storage_root)
    registry = BundleRegistry(storage_root, name or source.manifest.name)
    source = _with_verdicts(source, accept_inconclusive)
    _copy(source, target := registry.folder_of(source.digest))
    before = registry.production()
    if before is not None and before.digest == source.digest:
        return _promotion(registry, StoredBundle.open(target), before.previous, changed=False)
    _point(registry, source, None if before is None else before.digest)
    return _promotion(registry, StoredBundle.open(target), None if before is None else before.digest, changed=True)


def run_rollback(name: str, storage_root: str = "outputs") -> Promotion:
    """Point at the bundle that was in production before, which is verified first; a second time points back.

    Raises ConfigError where nothing was, BundleError where it is damaged.
    """
    registry = BundleRegistry(storage_root, name)
    now = registry.production()
    if now is None or now.previous is None:
        what = "nothing is in production" if now is None else f"nothing was before {now.digest[:12]}"
        raise ConfigError(f"{registry.store.uri}: {what}; promote the run that is wanted")
    earlier = registry.bundle(now.previous)
    earlier.verify()
    _point(registry, earlier, now.digest)
    return _promotion(registry, earlier, now.digest, changed=True)


def _with_verdicts(source: StoredBundle, accept_inconclusive: bool) -> StoredBundle:
    """The bundle as it goes into production: without the formats of which nobody can tell whether they lose too much.

    Raises GateError where nothing is left, and where the bundle is signed, since a signature is of all formats.
    """
    manifest = source.manifest
    if not manifest.formats:
        reasons = "".join(f"\n{name}: {reason}" for name, reason in manifest.refused.items())
        raise GateError(f"{source.store.uri} has no format that passed, so there is nothing to promote{reasons}")
    unsure = {
        name: f"inconclusive, {each.parity.get('reason', '')}"
        for name, each in manifest.formats.items()
        if each.verdict == "inconclusive"
    }
    if not unsure or accept_inconclusive:
        return source
    why = "".join(f"\n{name}: {reason}" for name, reason in unsure.items())
    if len(unsure) == len(manifest.formats):
        raise GateError(
            f"{source.store.uri} has only formats that are inconclusive{why}\nput more images into val and export "
            "again, or promote with --accept-inconclusive"
        )
    if source.signature() is not None:
        sure = ",".join(name for name in manifest.formats if name not in unsure)
        raise GateError(
            f"{source.store.uri} is signed, so no format can be left out of it{why}\nexport again with --formats "
            f"{sure}, or promote with --accept-inconclusive"
        )
    return source.without(unsure)


def _copy(source: StoredBundle, target: Store) -> None:
    """A file that is there and right stays: a promotion that was cut short goes on, and a damaged copy is replaced."""
    for path, known in source.manifest.files.items():
        data = source.read(path)
        there = target.read_or_none(path, known.bytes + 1)
        if there is None or hashlib.sha256(there).hexdigest() != known.sha256:
            target.write(path, data)
    # The seal does not cover the signature: a bundle may be signed after it was promoted.
    for path, data in ((SIGNATURE, source.signature()), (MANIFEST, source.text)):
        if data is not None and target.read_or_none(path) != data:
            target.write(path, data)


def _point(registry: BundleRegistry, bundle: StoredBundle, previous: str | None) -> None:
    run = str(bundle.manifest.provenance.get("run", bundle.manifest.name))
    registry.set_production(PromotedVersion(1, bundle.digest, previous, run))


def _promotion(registry: BundleRegistry, bundle: StoredBundle, previous: str | None, *, changed: bool) -> Promotion:
    formats = tuple(bundle.manifest.formats)
    return Promotion(
        registry.name, bundle.store.uri, bundle.digest, previous, changed, formats, dict(bundle.manifest.refused)
    )
