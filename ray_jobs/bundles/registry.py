"""The registry of bundles that machines pull, `<root>/bundles/<name>/<digest12>/`, and which one is in production.

The seal of a bundle names its folder, so nothing in the folder ever changes. Its bundle.json is written last, so the
bundle is complete or absent. `production.json` is one small file, replaced atomically: the last promotion wins, and no
reader sees half of it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from cluster.errors import StorageError
from cluster.storage.store import Store
from ray_jobs.errors import ConfigError
from ray_jobs.run.argument import RUNS, hint_at_folder, names_a_place
from ray_jobs.run.directory import RunDirectory
from resnet_dist.errors import RunError
from resnet_dist.runtime.bundle import (
    BUNDLE,
    MANIFEST,
    MOST_BYTES,
    SIGNATURE,
    Manifest,
    read_manifest,
    require_unchanged,
    seal,
)
from resnet_dist.runtime.errors import BundleError

BUNDLES = "bundles"
PRODUCTION = "production.json"
SHORT = 12
"""Letters of a digest that name a folder."""
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class PromotedVersion:
    """production.json: the version that machines pull by the name alone."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    schema: Literal[1]
    digest: _Digest
    """The seal of the bundle."""
    previous: _Digest | None
    """The seal of the version that was in production before."""
    run: str
    """The run that the bundle was exported from."""


_ADAPTER = TypeAdapter(PromotedVersion)


@dataclass(frozen=True)
class StoredBundle:
    """A bundle in storage whose bundle.json has been checked; `read` checks each of the other files."""

    store: Store
    manifest: Manifest
    text: bytes
    """bundle.json."""

    @property
    def digest(self) -> str:
        """Its seal."""
        return self.manifest.seal

    @classmethod
    def open(cls, store: Store) -> Self:
        """The bundle in a folder of storage. Raises BundleError where there is none, or bundle.json was changed."""
        text = store.read_or_none(MANIFEST, MOST_BYTES)
        if text is None:
            raise BundleError(f"{store.uri} is no bundle: there is no {MANIFEST}; export a run, or check the address")
        manifest = read_manifest(text, f"{store.uri}/{MANIFEST}")
        return cls(store, manifest, text)

    def read(self, path: str) -> bytes:
        """A file's bytes. Raises BundleError where they are not those that were exported."""
        known = self.manifest.files[path]
        # One byte more than it may have shows that it has more.
        data = self.store.read_or_none(path, known.bytes + 1)
        if data is None:
            raise BundleError(f"{self.store.uri} is incomplete: there is no {path}; promote or export the run again")
        require_unchanged(data, known, f"{self.store.uri}/{path}", "promote or export the run again")
        return data

    def signature(self) -> bytes | None:
        """The signature, where it is signed."""
        return self.store.read_or_none(SIGNATURE, MOST_BYTES)

    def verify(self) -> None:
        """Read and check every file. Raises BundleError."""
        for path in self.manifest.files:
            self.read(path)

    def without(self, reasons: Mapping[str, str]) -> Self:
        """The bundle of the other formats: another one, with a seal of its own. `reasons` says why each is left out."""
        value: dict[str, Any] = json.loads(self.text)
        left = {name: each for name, each in value["formats"].items() if name not in reasons}
        still_used = {path for each in left.values() for path in each["files"]}
        gone = {path for name in reasons for path in self.manifest.formats[name].files} - still_used
        files = {path: known for path, known in value["files"].items() if path not in gone}
        del value["seal"]
        text = seal(value | {"formats": left, "files": files, "refused": value["refused"] | dict(reasons)})
        return replace(self, manifest=read_manifest(text, self.store.uri), text=text)


class BundleRegistry:
    """All bundles of one name."""

    def __init__(self, storage_root: str, name: str) -> None:
        """Raises ConfigError for what cannot be a folder's name."""
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"the bundle's name {name!r} must be 1 to 100 letters, digits, '.', '_' or '-' and not begin with a "
                "dot; choose another with --as"
            )
        self.name = name
        self.store = Store.open(storage_root).child(f"{BUNDLES}/{name}")

    def folder_of(self, digest: str) -> Store:
        """The folder of the bundle of a digest, whether it is there or not."""
        return self.store.child(digest[:SHORT])

    def bundle(self, digest: str) -> StoredBundle:
        """The bundle of a digest, given by at least its first 12 letters. Raises BundleError."""
        found = StoredBundle.open(self.folder_of(digest))
        if not found.digest.startswith(digest):
            raise BundleError(
                f"{found.store.uri} holds the bundle {found.digest}, not {digest}; promote the run of that again"
            )
        return found

    def production(self) -> PromotedVersion | None:
        """The version in production; None where there is none. Raises BundleError where production.json is damaged."""
        data = self.store.read_or_none(PRODUCTION, MOST_BYTES)
        if data is None:
            return None
        try:
            return _ADAPTER.validate_json(data, strict=True)
        except ValidationError as error:
            raise BundleError(
                f"{self.store.uri}/{PRODUCTION} cannot be used ({error.errors()[0]['msg']}); delete it and "
                "promote a run again"
            ) from error

    def set_production(self, version: PromotedVersion) -> None:
        """Replace production.json atomically."""
        value: dict[str, Any] = asdict(version)
        self.store.write(PRODUCTION, (json.dumps(value, indent=2) + "\n").encode())


def find_bundle(argument: str, storage_root: str) -> StoredBundle:
    """The bundle of a run, or one in a folder of its own: a path, a URI, or the name of a run under the storage root.

    Raises RunError or BundleError where there is none.
    """
    if not names_a_place(argument):
        directory = RunDirectory.find(argument, storage_root)
        place = directory.store.child(BUNDLE)
        if not place.exists(MANIFEST):
            raise RunError(f"{directory.uri} has no bundle; make one: resnet-dist export {argument}")
        return StoredBundle.open(place)
    place = Store.open(argument)
    inner = place.child(BUNDLE)
    return StoredBundle.open(inner if not place.exists(MANIFEST) and inner.exists(MANIFEST) else place)


def find_promoted(argument: str, storage_root: str) -> StoredBundle:
    """NAME, which is in production, or NAME@DIGEST. Raises BundleError, StorageError or ConfigError."""
    name, _, digest = argument.partition("@")
    registry = BundleRegistry(storage_root, name)
    if digest:
        if not re.fullmatch(f"[0-9a-f]{{{SHORT},64}}", digest):
            raise ConfigError(f"{argument}: a digest is {SHORT} to 64 of 0-9 and a-f, as `promote` prints it")
        return registry.bundle(digest)
    production = registry.production()
    if production is None:
        root = Store.open(storage_root)
        names = root.list(BUNDLES)
        listed = f"names there: {', '.join(names)}" if names else f"no run of {root.uri} was promoted"
        hint = (
            f"; for a run's own bundle give its path: {root.uri}/{RUNS}/{name}" if root.exists(f"{RUNS}/{name}") else ""
        )
        raise StorageError(
            f"{registry.store.uri} has no {PRODUCTION}: {listed}; promote a run first{hint}{hint_at_folder(argument)}"
        )
    return registry.bundle(production.digest)
