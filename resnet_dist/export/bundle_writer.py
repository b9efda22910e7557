"""A bundle's folder: format files are there already; this adds what describes them, and seals it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_dist.evaluation.judged_answers import JudgedAnswers
from resnet_dist.export.formats.build import BuiltFormat
from resnet_dist.export.model_card import model_card
from resnet_dist.export.parity import Parity
from resnet_dist.export.sbom import components
from resnet_dist.runtime.bundle import MANIFEST, PREPROCESS, SCHEMA, SIGNATURE, seal
from resnet_dist.runtime.model_contract import INPUT, MOST_IMAGES, OUTPUT
from resnet_dist.runtime.operating_point import OperatingPoint
from resnet_dist.runtime.preprocess import Preprocess

PARITY = "parity.json"
SBOM = "sbom.cdx.json"
CARD = "README.md"
DESCRIPTION = (PREPROCESS, PARITY, CARD, SBOM)
"""Files of every bundle besides its formats."""


@dataclass(frozen=True)
class BundleContent:
    """What a bundle says besides its formats."""

    name: str
    classes: tuple[str, ...]
    preprocess: Preprocess
    operating_point: OperatingPoint
    provenance: dict[str, Any]
    """Plain values, with "arch" and "packages"."""
    evaluation: dict[str, JudgedAnswers]
    """What the trained model with the operating point comes to, by split."""


def write_bundle(
    folder: Path,
    content: BundleContent,
    built: list[BuiltFormat],
    parities: dict[str, Parity],
    failed: dict[str, str],
    key: Path | None,
) -> None:
    """Describe and seal the formats in `folder` that passed their gate, with `key` signed; other files there go.

    `parities` has one for each that was built, `failed` a reason for each that could not be. Raises ValueError where a
    key cannot sign.
    """
    published = {each.name: each for each in built if parities[each.name].verdict != "refused"}
    write_description(folder, content, parities, built)
    kept = {*DESCRIPTION, *(file for each in published.values() for file in each.files)}
    files = _hashed(folder, kept)
    manifest = {
        "schema": SCHEMA,
        "name": content.name,
        "classes": list(content.classes),
        "input": input_contract(content.preprocess),
        "output": {"name": OUTPUT, "dtype": "float32", "classes": len(content.classes)},
        "operating_point": content.operating_point.to_json(content.classes),
        "formats": {
            name: {
                "runtime": each.runtime,
                "precision": each.precision,
                "files": list(each.files),
                "hints": each.hints,
                "any_size": each.any_size,
                "verdict": parities[name].verdict,
                "parity": parities[name].to_json(),
            }
            for name, each in published.items()
        },
        "refused": failed | {name: parity.reason for name, parity in parities.items() if parity.verdict == "refused"},
        "provenance": content.provenance,
        "files": files,
    }
    (folder / MANIFEST).write_bytes(seal(manifest))
    if key is not None:
        _sign(folder, key)


def input_contract(preprocess: Preprocess) -> dict[str, Any]:
    """What a format takes."""
    height, width = preprocess.input_size
    return {
        "name": INPUT,
        "dtype": "uint8",
        "layout": "NHWC",
        "colour": "RGB",
        "height": height,
        "width": width,
        "most_images": MOST_IMAGES,
        "preprocess": PREPROCESS,
    }


def write_description(
    folder: Path, content: BundleContent, parities: dict[str, Parity], built: Sequence[BuiltFormat]
) -> None:
    """Write the preprocessing, the parity report, the model card and the list of components."""
    (folder / PREPROCESS).write_text(json.dumps(content.preprocess.to_json(), indent=2) + "\n")
    report = {
        "schema": 2,
        "formats": {name: parity.to_json() for name, parity in parities.items()},
        "int8": {each.name: [proof.to_json() for proof in each.proofs] for each in built if each.proofs},
        "judged": {split: judged.to_json() for split, judged in content.evaluation.items()},
    }
    (folder / PARITY).write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    operating = content.operating_point.to_json(content.classes)
    card = model_card(content.name, content.classes, content.provenance, operating, content.evaluation, parities)
    (folder / CARD).write_text(card)
    (folder / SBOM).write_bytes(components())


def _hashed(folder: Path, kept: set[str]) -> dict[str, dict[str, Any]]:
    """Sizes and hashes of the files that stay; all others are removed, and folders that are empty then."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
            continue
        name = path.relative_to(folder).as_posix()
        if name not in kept:
            path.unlink()
            continue
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        found[name] = {"sha256": digest, "bytes": path.stat().st_size}
    return dict(sorted(found.items()))


def _sign(folder: Path, key: Path) -> None:
    from model_signing import signing  # noqa: PLC0415 - only who signs needs it

    if not key.is_file():
        raise ValueError(f"export.signing_key={key} is no file; give the PEM file of an elliptic-curve private key")
    try:
        signing.Config().use_elliptic_key_signer(private_key=key).sign(folder, folder / SIGNATURE)
    except Exception as error:  # the library raises whatever its own libraries do
        raise ValueError(
            f"export.signing_key={key} cannot sign ({error}); it must be an elliptic-curve key such as `openssl "
            "ecparam -name prime256v1 -genkey -noout` makes, without a password"
        ) from error
