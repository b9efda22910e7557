"""model.json: an architecture as data, from which it is built again without code."""

from typing import Any, cast

from resnet_dist.errors import RunError
from resnet_dist.model.config import ARCHS, Arch
from resnet_dist.model.resnet import ResNetClassifier, build_model
from resnet_dist.model.squeeze_excite import REDUCTION

SCHEMA = 1
_MAX_CLASSES = 100_000
_UNCHANGED = ("widths", "quantisation")
"""Keys of what an unchanged ResNet does not have: null."""
_KEYS = {"schema", "arch", "classes", "dropout", "squeeze_excite", *_UNCHANGED}
_GATES = {"reduction": REDUCTION}


def describe(model: ResNetClassifier) -> dict[str, Any]:
    """What `rebuild` needs of a model, as plain values."""
    return {
        "schema": SCHEMA,
        "arch": model.arch,
        "classes": model.fc.out_features,
        "dropout": model.dropout,
        "squeeze_excite": dict(_GATES) if model.squeeze_excite else None,
        **dict.fromkeys(_UNCHANGED),
    }


def rebuild(description: dict[str, Any]) -> ResNetClassifier:
    """The described network, with the weights of seed 0. Raises RunError for anything this version does not know."""
    if description.get("schema") != SCHEMA or set(description) != _KEYS:
        raise RunError(
            f"model.json has schema {description.get('schema')!r} and keys {sorted(description)}; this version reads "
            f"schema {SCHEMA} with {sorted(_KEYS)}: use the version that wrote it"
        )
    for key in _UNCHANGED:
        if description[key] is not None:
            raise RunError(f"model.json has {key}={description[key]!r}, which this version cannot build; upgrade")
    gates = description["squeeze_excite"]
    # By type too, since 16.0 and True are equal to numbers that they are not.
    if gates is not None and (gates != _GATES or type(gates["reduction"]) is not int):
        raise RunError(f"model.json has squeeze_excite={gates!r}; this version builds null or {_GATES}; upgrade")
    arch, classes, dropout = description["arch"], description["classes"], description["dropout"]
    if arch not in ARCHS:
        raise RunError(f"model.json has arch={arch!r}; this version knows {', '.join(ARCHS)}")
    if type(classes) is not int or not 1 <= classes <= _MAX_CLASSES:
        raise RunError(f"model.json has classes={classes!r}; they are a whole number in 1..{_MAX_CLASSES}")
    if type(dropout) not in (int, float) or not 0.0 <= dropout < 1.0:
        raise RunError(f"model.json has dropout={dropout!r}; it is a number in [0, 1)")
    return build_model(cast("Arch", arch), classes, float(dropout), seed=0, squeeze_excite=gates is not None)
