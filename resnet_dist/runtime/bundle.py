"""A bundle as its files say: what it answers, with which formats, and that no byte of it has changed.

A bundle is a folder with `bundle.json`, `preprocess.json` and a folder for each format. `bundle.json` names every other
file with its sha256 and carries a seal of its own; what is loaded is what was checked, since files are read once.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from resnet_dist.runtime.errors import BundleError, RuntimeMissingError, brief
from resnet_dist.runtime.model_contract import InputContract, OutputContract
from resnet_dist.runtime.operating_point import OperatingPoint
from resnet_dist.runtime.preprocess import Preprocess
from resnet_dist.runtime.regular_file import TooLargeError, read_regular

SCHEMA = 1
BUNDLE = "bundle"
"""Of a run: the folder of its bundle."""
MANIFEST = "bundle.json"
PREPROCESS = "preprocess.json"
SIGNATURE = "model.sig"
MOST_BYTES = 64 * 2**20
"""Of bundle.json or a signature: a larger one is none of ours."""

Runtime = Literal["onnxruntime", "openvino", "tensorrt", "torch"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
_Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class BundleFile:
    """A file of a bundle."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    sha256: _Hash
    bytes: Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class BundleFormat:
    """A published format: its files, what runs it and how exact it is."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    runtime: Runtime
    precision: Precision
    files: Annotated[tuple[str, ...], Field(min_length=1)]
    """Paths in the bundle; the first is the one that is loaded."""
    hints: dict[str, str]
    """Settings of the runtime, such as INFERENCE_PRECISION_HINT."""
    any_size: bool
    """Whether it takes upright images of any size, and resizes them itself."""
    verdict: Literal["passed", "inconclusive"]
    parity: dict[str, Any]
    """Its differences to the trained model, as in parity.json."""


@dataclass(frozen=True)
class Manifest:
    """bundle.json."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    schema: Literal[1]
    name: str
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    input: InputContract
    output: OutputContract
    operating_point: dict[str, Any]
    formats: dict[str, BundleFormat]
    refused: dict[str, str]
    provenance: dict[str, Any]
    files: dict[str, BundleFile]
    seal: _Hash
    """Sha256 of all the rest in canonical JSON, hashes of the files among it: what tells one bundle from another."""


_ADAPTER = TypeAdapter(Manifest)


class Bundle:
    """An opened bundle. `bundle.json` and `preprocess.json` have been checked; a format's files are as it is read."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.digest = manifest.seal
        """What tells this bundle from others, here and in storage."""
        self._manifest = manifest
        self.name = manifest.name
        self.classes = manifest.classes
        self.formats = manifest.formats
        self.refused = manifest.refused
        """Formats that a parity gate kept out, each with the reason."""
        self.files = manifest.files
        self.provenance = manifest.provenance
        self.input = manifest.input
        self.output = manifest.output
        try:
            self.operating_point = OperatingPoint.from_json(manifest.operating_point, manifest.classes)
        except BundleError as error:
            raise BundleError(f"{folder / MANIFEST}: {error}") from error
        try:
            self.preprocess = Preprocess.from_json(json.loads(self.read(PREPROCESS)))
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{folder / PREPROCESS} cannot be used ({brief(error)}); export the run again") from error
        if self.preprocess.input_size != (self.input.height, self.input.width):
            raise BundleError(
                f"{folder / PREPROCESS} makes images of {list(self.preprocess.input_size)} pixels, and {MANIFEST} says "
                f"that the model takes {[self.input.height, self.input.width]}; export the run again"
            )
        width = manifest.output.classes
        if width != len(self.classes) or len(set(self.classes)) < len(self.classes):
            raise BundleError(
                f"{folder / MANIFEST} lists {len(self.classes)} classes ({len(set(self.classes))} different), and the "
                f"model answers {width}; each of its outputs has one name: export the run again"
            )

    @classmethod
    def open(cls, place: str | Path, public_key: str | Path | None = None) -> "Bundle":
        """The bundle in a folder, or the `bundle` folder of a run's folder.

        With `public_key`, a PEM file, the bundle must be signed by the key's other half. Raises BundleError for what
        is no bundle of this schema, was changed, or is not signed so; RuntimeMissingError where signatures cannot be
        checked.
        """
        folder = Path(place).expanduser()
        if not (folder / MANIFEST).is_file() and (folder / BUNDLE / MANIFEST).is_file():
            folder = folder / BUNDLE
        if public_key is not None:
            _check_signature(folder, Path(public_key))
        return cls(folder, read_manifest(_read(folder, MANIFEST), str(folder / MANIFEST)))

    def read(self, path: str) -> bytes:
        """A file's bytes. Raises BundleError where they are not those that were exported."""
        known = self.files.get(path)
        if known is None:
            raise BundleError(f"{self.folder / MANIFEST} names no {path!r}; export the run again")
        data = _read(self.folder, path, known.bytes)
        require_unchanged(data, known, str(self.folder / path), "get the bundle again, or export the run again")
        return data

    def format(self, name: str | None = None) -> tuple[str, BundleFormat]:
        """A format by name, or the one that is meant to be used where nothing is said. Raises BundleError."""
        if name is None:
            name = next((each for each in ("onnx", "openvino", *self.formats) if each in self.formats), "")
        if name not in self.formats:
            why = f": it was refused, {self.refused[name]}" if name in self.refused else ""
            raise BundleError(f"{self.folder} has no format {name!r}{why}; it has {', '.join(self.formats) or 'none'}")
        return name, self.formats[name]

    def verify(self) -> None:
        """Check every file. Raises BundleError."""
        for path in self.files:
            self.read(path)


def require_unchanged(data: bytes, known: BundleFile, place: str, remedy: str) -> None:
    """Raise BundleError where a file's bytes are not those that were exported."""
    found = hashlib.sha256(data).hexdigest()
    if found != known.sha256:
        raise BundleError(
            f"{place} was changed: its sha256 is {found[:12]}..., {MANIFEST} says {known.sha256[:12]}...; {remedy}"
        )


def seal(manifest: dict[str, Any]) -> bytes:
    """bundle.json of a manifest: itself with the sha256 of its canonical JSON."""
    return (json.dumps({**manifest, "seal": _digest(manifest)}, indent=2, allow_nan=False) + "\n").encode()


def read_manifest(data: bytes, place: str) -> Manifest:
    """A checked bundle.json. Raises BundleError for another schema, a changed byte, or what cannot be read."""
    try:
        value: dict[str, Any] = json.loads(data)
        schema = value.get("schema")
    except (ValueError, AttributeError, RecursionError) as error:
        raise BundleError(f"{place} is no bundle ({brief(error)}); export the run again") from error
    if schema != SCHEMA:
        newer = isinstance(schema, int) and schema > SCHEMA
        remedy = "upgrade resnet-dist" if newer else "export the run again"
        raise BundleError(f"{place} has schema {brief(repr(schema))}; this version reads {SCHEMA}: {remedy}")
    sealed = value.pop("seal", None)
    try:
        digest = _digest(value)
    except (ValueError, RecursionError) as error:  # such as a number that JSON does not have
        raise BundleError(f"{place} is no bundle ({brief(error)}); export the run again") from error
    if sealed != digest:
        raise BundleError(f"{place} was changed since it was written; get the bundle again, or export the run again")
    try:
        manifest = _ADAPTER.validate_json(json.dumps(value | {"seal": digest}), strict=True)
    except (ValidationError, RecursionError) as error:
        raise BundleError(f"{place} cannot be used: {brief(error)}; export the run again") from error
    for path in manifest.files:
        _inside(path, place)
    return manifest


def _digest(manifest: dict[str, Any]) -> str:
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _inside(path: str, place: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or ".." in parts or path.startswith("/") or not re.fullmatch(r"[A-Za-z0-9._/-]+", path):
        raise BundleError(
            f"{place} names the file {brief(repr(path))}, which lies outside of it; get the bundle from its source"
        )


def _read(folder: Path, path: str, most: int = MOST_BYTES) -> bytes:
    try:
        return read_regular(folder / path, most)
    except FileNotFoundError as error:
        what = "is no bundle" if path == MANIFEST else "is incomplete"
        raise BundleError(f"{folder} {what}: there is no {path}; export a run, or get the bundle again") from error
    except TooLargeError as error:
        raise BundleError(
            f"{folder / path} is longer than the {most} bytes it should have; get the bundle again"
        ) from error
    except OSError as error:
        raise BundleError(f"{folder / path} cannot be read ({error}); correct that, or get the bundle again") from error


def _check_signature(folder: Path, public_key: Path) -> None:
    try:
        from model_signing import hashing, verifying  # noqa: PLC0415 - only who checks signatures needs it
    except ImportError as error:
        raise RuntimeMissingError(
            "signatures are checked by model-signing, which is not installed; pip install 'resnet-dist[signing]'"
        ) from error
    if not public_key.is_file():
        raise BundleError(f"the public key {public_key} is no file; give the PEM file of the key that signed")
    if not (folder / SIGNATURE).is_file():
        raise BundleError(f"{folder} is not signed: it has no {SIGNATURE}; use a signed bundle, or give no key")
    try:
        folder = folder.resolve()  # what is ignored is compared with whole paths
        signature = folder / SIGNATURE
        hashed = hashing.Config().set_ignored_paths(paths=[signature], ignore_git_paths=False)
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key).set_hashing_config(hashed)
        config.verify(folder, signature)
    except Exception as error:  # the library raises whatever its own libraries do
        raise BundleError(
            f"{folder} is not what the owner of {public_key} signed ({error}); get the bundle from its source"
        ) from error
