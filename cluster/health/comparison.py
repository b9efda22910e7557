"""What the nodes of a cluster say of themselves and of each other, judged: which of them is not as the others."""

import hashlib
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import requires
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from cluster.health.clock_skew import Skew
from cluster.health.peer_links import Address, Link
from cluster.health.preflight import Check
from cluster.health.survey import IMAGE_VARIABLE, Survey

_WARN_SKEW_S = 1.0
"""From here on, log lines and the times in a search's records no longer tell what came first."""
_WRONG_SKEW_S = 300.0
"""Object stores refuse requests that are signed 15 minutes off, Kerberos and many tokens at 5. A lease bears any skew:
it goes by the taker's own steady clock."""
_SLOW_SHARE = 0.25
_MOST_NAMED = 4
_NETWORK_REMEDY = "let nodes reach each other on all TCP ports: firewall, security group, NetworkPolicy, routes"


class NodeCheck(NamedTuple):
    """A check of one node, or of all of them together."""

    node: str
    """Empty: of all nodes together."""
    check: Check


def compare_packages(surveys: Mapping[str, Survey]) -> list[NodeCheck]:
    """Whether Python and all installed distributions are the same everywhere; by the nodes' names, the head first."""
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
    """Whether this project's own code is the same everywhere."""
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
    """Whether all nodes name the same image; which they do where RESNET_DIST_IMAGE is set."""
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


def compare_with_driver(here: Survey, node: Survey, status: str) -> list[Check]:
    """Whether this machine has the code and required packages of a node. `status`: how bad it is where it has not."""
    required = {"python", *_required()}
    own, others = ({"python": each.python, **each.packages} for each in (here, node))
    different = [name for name in sorted(required) if own.get(name) != others.get(name)]
    named = [f"{name} {own.get(name, 'absent')} (not {others.get(name, 'there')})" for name in different]
    files = [
        path for path in sorted({*here.sources, *node.sources}) if here.sources.get(path) != node.sources.get(path)
    ]
    remedy = "start jobs from the nodes' own image (resnet-dist submit does), or install here what they have"
    kind = "error" if status == "error" else "warning"
    checks: list[Check] = []
    for name, unlike in (("same packages", named), ("same code", files)):
        if unlike:
            checks.append(Check(name, kind, f"unlike the nodes: {some(unlike)}", remedy))
        else:
            checks.append(Check(name, "ok", "as on the nodes"))
    return checks


def check_clock(skew: Skew) -> Check:
    """A node's clock against this machine's. What the messages' way may explain is not held against it."""
    found = f"{skew.offset_s:+.3f} s against this machine, to within {skew.uncertainty_s:.3f} s"
    if skew.least_s < _WARN_SKEW_S:
        return Check("clock", "ok", found)
    status = "error" if skew.least_s >= _WRONG_SKEW_S else "warning"
    return Check("clock", status, found, "let chrony or systemd-timesyncd set the clock of that node's host")


def check_links(
    links: Mapping[str, Mapping[str, Link]], addresses: Mapping[str, Address], rates: Mapping[str, Sequence[float]]
) -> list[NodeCheck]:
    """Who reaches whom. By names: each node's links to all others, its listener, and rates of links that touch it."""
    failed = [(name, peer) for name, others in links.items() for peer, link in others.items() if link.seconds is None]
    # Whom nobody reaches is at fault itself, where more than one has tried.
    tried = Counter(peer for others in links.values() for peer in others)
    missed = Counter(peer for _, peer in failed)
    shut = {peer for peer, count in missed.items() if count == tried[peer] > 1}
    best = {name: max(found) for name, found in rates.items() if found}
    usual = statistics.median(best.values()) if best else 0.0
    checks: list[NodeCheck] = []
    for name, others in links.items():
        unreached = [peer for each, peer in failed if each == name and peer not in shut]
        reached = [link.seconds for link in others.values() if link.seconds is not None]
        slowest = f", the slowest in {1000 * max(reached):.2f} ms" if reached else ""
        speed = f"; {best[name] / 1e6:.0f} MB/s" if name in best else ""
        found = f"reaches {len(reached)} of {len(others)} nodes{slowest}{speed}"
        if name in shut:
            where = addresses[name]
            found = f"no other node reaches it at {where.host}:{where.port}"
            checks.append(NodeCheck(name, Check("network", "error", found, _NETWORK_REMEDY)))
        elif unreached:
            texts = [_unreached(peer, addresses[peer], others[peer]) for peer in unreached]
            checks.append(NodeCheck(name, Check("network", "error", f"does not reach {some(texts)}", _NETWORK_REMEDY)))
        elif len(best) > 2 and best.get(name, usual) < _SLOW_SHARE * usual:
            found += f", where the others have {usual / 1e6:.0f} MB/s"
            remedy = "every step waits for this node: look at its network card, cable and neighbours, or leave it out"
            checks.append(NodeCheck(name, Check("network", "warning", found, remedy)))
        else:
            checks.append(NodeCheck(name, Check("network", "ok", found)))
    return checks


def _unreached(peer: str, address: Address, link: Link) -> str:
    return f"{peer} at {address.host}:{address.port} from {link.interface}: {link.error}"


def _required() -> Iterable[str]:
    wanted = [Requirement(text) for text in requires("resnet-dist") or ()]
    return [
        canonicalize_name(each.name)
        for each in wanted
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in ("", "train"))
    ]


def _is_wrong(package: str, one: str | None, other: str | None) -> bool:
    """Whether a difference may change results or break a job: another version, or none of what is required. A build
    for other hardware (+cpu, +cu130), or a tool more or less, is no more than odd."""
    if one is None or other is None:
        return package in {*_required(), "resnet-dist"}
    try:
        return Version(one).public != Version(other).public
    except InvalidVersion:
        return one != other


def _commonest(values: Mapping[str, str]) -> str:
    """The first of the names whose value most share."""
    count = Counter(values.values())
    return max(values, key=lambda name: count[values[name]])


def _digest(values: Mapping[str, str]) -> str:
    return hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()[:12]


def some(texts: Sequence[str], most: int = _MOST_NAMED) -> str:
    """A few of the texts, and how many more there are."""
    more = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {more} more" if more > 0 else "")
