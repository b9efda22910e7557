"""Which node of a cluster has another image, other packages or other code than the rest."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.metadata import requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from cluster.health.preflight import Check, NodeCheck, Status, some
from cluster.health.survey import IMAGE_VARIABLE, Survey


def compare_packages(surveys: Mapping[str, Survey]) -> list[NodeCheck]:
    """Whether all nodes have the same Python and distributions. `surveys`: by the nodes' names, the head first."""
    versions = {name: {"python": survey.python, **survey.packages} for name, survey in surveys.items()}
    model = _commonest({name: _digest(own) for name, own in versions.items()})
    found: list[NodeCheck] = []
    for name, own in versions.items():
        others = versions[model]
        different = [package for package in sorted({*own, *others}) if own.get(package) != others.get(package)]
        if not different:
            text = f"{len(own) - 1} distributions, all {_digest(own)}"
            found.append(NodeCheck(name, Check("same packages", "ok", text)))
            continue
        different.sort(key=lambda package: not _is_wrong(package, own.get(package), others.get(package)))
        is_wrong = _is_wrong(different[0], own.get(different[0]), others.get(different[0]))
        named = [f"{each} {own.get(each, 'absent')} (not {others.get(each, 'there')})" for each in different]
        check = Check(
            "same packages",
            "error" if is_wrong else "warning",
            f"unlike {model}: {some(named)}",
            "start every node from the same image, or install requirements.lock on it again",
        )
        found.append(NodeCheck(name, check))
    return found


def compare_sources(surveys: Mapping[str, Survey]) -> list[NodeCheck]:
    """Whether all nodes have the same code of this project."""
    sources = {name: survey.sources for name, survey in surveys.items()}
    model = _commonest({name: _digest(own) for name, own in sources.items() if own} or dict.fromkeys(sources, ""))
    found: list[NodeCheck] = []
    for name, own in sources.items():
        others = sources[model]
        remedy = "start every node from the same image, or install the same resnet-dist on it"
        if not own:
            check = Check("same code", "error", "resnet-dist is not installed there", remedy)
        elif different := [path for path in sorted({*own, *others}) if own.get(path) != others.get(path)]:
            check = Check("same code", "error", f"unlike {model}: {some(different)}", remedy)
        else:
            check = Check("same code", "ok", f"{len(own)} files, all {_digest(own)}")
        found.append(NodeCheck(name, check))
    return found


def compare_images(surveys: Mapping[str, Survey]) -> list[NodeCheck]:
    """Whether all nodes name the same image. A node names its image if RESNET_DIST_IMAGE is set."""
    images = {name: survey.image for name, survey in surveys.items()}
    model = _commonest(images)
    found: list[NodeCheck] = []
    for name, image in images.items():
        text = image or f"not named: {IMAGE_VARIABLE} is not set"
        if image == images[model]:
            found.append(NodeCheck(name, Check("image", "ok", text)))
        else:
            remedy = "start every node from the same image"
            found.append(NodeCheck(name, Check("image", "warning", f"{text}, unlike {model}", remedy)))
    return found


def compare_with_driver(here: Survey, node: Survey, status: Status) -> list[Check]:
    """Whether this machine has the code and required packages of a node. `status`: that of a difference."""
    required = {"python", *_required()}
    own, others = ({"python": each.python, **each.packages} for each in (here, node))
    different = [name for name in sorted(required) if own.get(name) != others.get(name)]
    named = [f"{name} {own.get(name, 'absent')} (not {others.get(name, 'there')})" for name in different]
    files = [
        path for path in sorted({*here.sources, *node.sources}) if here.sources.get(path) != node.sources.get(path)
    ]
    remedy = "start jobs from the nodes' own image (resnet-dist submit does), or install here what they have"
    checks: list[Check] = []
    for name, unlike in (("same packages", named), ("same code", files)):
        if unlike:
            checks.append(Check(name, status, f"unlike the nodes: {some(unlike)}", remedy))
        else:
            checks.append(Check(name, "ok", "as on the nodes"))
    return checks


def _required() -> Iterable[str]:
    wanted = [Requirement(text) for text in requires("resnet-dist") or ()]
    return [
        canonicalize_name(each.name)
        for each in wanted
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in ("", "train"))
    ]


def _is_wrong(package: str, one: str | None, other: str | None) -> bool:
    """Whether a difference may change results or break a job: another version, or a required package that is absent. A
    build for other hardware (+cpu, +cu130) or an additional tool does neither."""
    if one is None or other is None:
        return package in {*_required(), "resnet-dist"}
    try:
        return Version(one).public != Version(other).public
    except InvalidVersion:
        return one != other


def _commonest(values: Mapping[str, str]) -> str:
    """The first name with the most common value."""
    count = Counter(values.values())
    return max(values, key=lambda name: count[values[name]])


def _digest(values: Mapping[str, str]) -> str:
    return hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()[:12]
