"""model.json: an architecture as data, from which it is built again without code."""

from collections.abc import Mapping
from math import inf
from typing import Any, cast

import torch

from resnet_dist.errors import RunError
from resnet_dist.model.architectures import ARCHS, Arch
from resnet_dist.model.layers import GATE_REDUCTION
from resnet_dist.model.resnet import ResNetClassifier, build_model
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths
from resnet_dist.quantisation.dialect import Range
from resnet_dist.quantisation.fake_quantisers import WEIGHT_BITS
from resnet_dist.quantisation.network import quantise, ranges_of

SCHEMA = 1
_MAX_CLASSES = 100_000
_KEYS = {"schema", "arch", "classes", "dropout", "squeeze_excite", "widths", "quantisation"}
_GATES = {"reduction": GATE_REDUCTION}


def describe(model: ResNetClassifier) -> dict[str, Any]:
    """What `rebuild` needs of a model, as plain values."""
    structure = model.structure
    return {
        "schema": SCHEMA,
        "arch": structure.arch,
        "classes": model.fc.out_features,
        "dropout": model.dropout,
        "squeeze_excite": dict(_GATES) if structure.squeeze_excite else None,
        "widths": None if structure.widths is None else structure.widths.to_json(),
        "quantisation": _quantisation(model),
    }


def rebuild(description: dict[str, Any]) -> ResNetClassifier:
    """The described network, with the weights of seed 0, in floating point where it also has a quantisation.

    Raises RunError for anything this version does not know.
    """
    structure = structure_of(description)
    classes, dropout = description["classes"], description["dropout"]
    if type(classes) is not int or not 1 <= classes <= _MAX_CLASSES:
        raise RunError(f"model.json has classes={classes!r}; they are a whole number in 1..{_MAX_CLASSES}")
    if type(dropout) not in (int, float) or not 0.0 <= dropout < 1.0:
        raise RunError(f"model.json has dropout={dropout!r}; it is a number in [0, 1)")
    return build_model(structure, classes, float(dropout), seed=0)


def restored(description: dict[str, Any], weights: Mapping[str, torch.Tensor]) -> ResNetClassifier:
    """The described network with its weights, computing in 8 bits where it learnt to.

    Raises RunError as `rebuild` does, torch's RuntimeError for weights of another network.
    """
    model = restored_float(description, weights)
    if (ranges := ranges_in(description)) is not None:
        try:
            quantise(model, ranges)
        except ValueError as error:
            raise RunError(f"model.json has a quantisation of another network ({error}); restore the file") from None
    return model


def restored_float(description: dict[str, Any], weights: Mapping[str, torch.Tensor]) -> ResNetClassifier:
    """As `restored`, but in floating point throughout: what files of any precision are made of."""
    model = rebuild(description)
    model.load_state_dict(weights)
    return model


def ranges_in(description: dict[str, Any]) -> dict[str, Range] | None:
    """The ranges of the tensors of a network that computes in 8 bits, in the order of computation; None of another one.

    Raises RunError for anything this version does not know.
    """
    found = description.get("quantisation")
    if found is None:
        return None
    try:
        if set(found) != {"weight_bits", "ranges"} or found["weight_bits"] != WEIGHT_BITS:
            raise ValueError(f"it has {', '.join(found)}")
        ranges = {str(name): Range(float(low), float(high)) for name, (low, high) in found["ranges"].items()}
        if not all(-inf < each.low <= each.high < inf for each in ranges.values()):
            raise ValueError("a range is none")
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
        raise RunError(
            f"model.json has a quantisation that this version cannot build ({error}); upgrade, or restore the file"
        ) from None
    return ranges


def structure_of(description: dict[str, Any]) -> Structure:
    """The described architecture, gates and widths. Raises RunError for anything this version does not know."""
    if description.get("schema") != SCHEMA or set(description) != _KEYS:
        raise RunError(
            f"model.json has schema {description.get('schema')!r} and keys {sorted(description)}; this version reads "
            f"schema {SCHEMA} with {sorted(_KEYS)}: use the version that wrote it"
        )
    ranges_in(description)
    gates = description["squeeze_excite"]
    # By type too, since 16.0 and True are equal to numbers that they are not.
    if gates is not None and (gates != _GATES or type(gates["reduction"]) is not int):
        raise RunError(f"model.json has squeeze_excite={gates!r}; this version builds null or {_GATES}; upgrade")
    arch, widths = description["arch"], description["widths"]
    if arch not in ARCHS:
        raise RunError(f"model.json has arch={arch!r}; this version knows {', '.join(ARCHS)}")
    arch = cast("Arch", arch)
    try:
        found = None if widths is None else Widths.from_json(widths, arch)
    except ValueError as error:
        raise RunError(
            f"model.json has unusable widths ({error}); the file is damaged, or of a later version"
        ) from None
    return Structure(arch, squeeze_excite=gates is not None, widths=found)


def _quantisation(model: ResNetClassifier) -> dict[str, Any] | None:
    ranges = {name: [each.low, each.high] for name, each in ranges_of(model).items()}
    return {"weight_bits": WEIGHT_BITS, "ranges": ranges} if ranges else None
