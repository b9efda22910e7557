"""What NetworkPolicies let through, as Kubernetes defines it: a pod that a policy selects may do what any of its
policies allows, and a pod that none selects may do everything."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """An end of a connection: a pod, or, with an address and without labels, something outside."""

    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = "team"
    address: str = "10.0.0.1"


def allowed(policies: list[Object], source: Pod, target: Pod, port: int, protocol: str = "TCP") -> bool:
    """Whether the policies, all of namespace "team", let a connection through on both of its ends."""
    return _one_way(policies, "Egress", source, target, port, protocol) and _one_way(
        policies, "Ingress", target, source, port, protocol
    )


def _one_way(policies: list[Object], way: str, pod: Pod, other: Pod, port: int, protocol: str) -> bool:
    if pod.namespace != "team":
        return True
    ours = [
        each["spec"] for each in policies
        if way in each["spec"]["policyTypes"] and _selects(each["spec"]["podSelector"], pod.labels)
    ]  # fmt: skip
    rules = [rule for spec in ours for rule in spec.get(way.lower()) or []]
    peers = "to" if way == "Egress" else "from"
    return not ours or any(_rule_allows(rule, peers, other, port, protocol) for rule in rules)


def _rule_allows(rule: Object, peers: str, other: Pod, port: int, protocol: str) -> bool:
    is_port = "ports" not in rule or any(
        each.get("protocol", "TCP") == protocol and each.get("port", port) == port for each in rule["ports"]
    )
    return is_port and (peers not in rule or any(_is_peer(each, other) for each in rule[peers]))


def _is_peer(peer: Object, other: Pod) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        address = ip_address(other.address)
        excluded = any(address in ip_network(each) for each in block.get("except") or [])
        return address in ip_network(block["cidr"]) and not excluded
    if "namespaceSelector" in peer:
        is_namespace = _selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other.namespace})
    else:
        is_namespace = other.namespace == "team"
    return is_namespace and _selects(peer.get("podSelector", {}), other.labels)


def _selects(selector: Object, labels: Mapping[str, str]) -> bool:
    is_equal = all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())
    return is_equal and all(
        labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions") or []
    )
