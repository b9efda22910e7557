"""model.json: an architecture as data, from which it is built again without code."""

from typing import Any, cast

from resnet_dist.config import ARCHS, Arch
from resnet_dist.errors import RunError
from resnet_dist.model.resnet import ResNetClassifier, build_model

SCHEMA = 1


def describe(model: ResNetClassifier) -> dict[str, Any]:
    """What `rebuild` needs of a model. The last three stand for what an unchanged ResNet does not have."""
    return {
        "schema": SCHEMA,
        "arch": model.arch,
        "classes": model.fc.out_features,
        "dropout": model.dropout,
        "squeeze_excite": None,
        "widths": None,
        "quantisation": None,
    }


def rebuild(description: dict[str, Any]) -> ResNetClassifier:
    """The described network, with weights of seed 0. Raises RunError for anything this version does not know."""
    known = {"schema", "arch", "classes", "dropout", "squeeze_excite", "widths", "quantisation"}
    if description.get("schema") != SCHEMA or set(description) != known:
        raise RunError(
            f"model.json with schema {description.get('schema')!r} and keys {sorted(description)} was written by "
            f"another version; this one reads schema {SCHEMA} with {sorted(known)}"
        )
    if description["arch"] not in ARCHS:
        raise RunError(f"model.json names arch {description['arch']!r}; known are {', '.join(ARCHS)}")
    for key in ("squeeze_excite", "widths", "quantisation"):
        if description[key] is not None:
            raise RunError(f"model.json has {key}={description[key]!r}, which this version cannot build; upgrade")
    classes, dropout = description["classes"], description["dropout"]
    if not isinstance(classes, int) or not 1 <= classes <= 1_000_000 or not 0.0 <= float(dropout) < 1.0:
        raise RunError(
            f"model.json has classes={classes!r}, dropout={dropout!r}; classes start at 1, dropout is in [0, 1)"
        )
    return build_model(cast("Arch", description["arch"]), classes, float(dropout), seed=0)
