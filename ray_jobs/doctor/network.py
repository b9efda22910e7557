"""Whether all nodes of a running Ray reach each other, and how quickly they exchange gradients."""

# ray carries few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cluster.health.peer_links import Address, Link, check_links
from cluster.health.preflight import Check
from cluster.session.nodes import Lost, Node, answers
from ray_jobs.doctor.all_reduce import AllReduceTiming
from ray_jobs.doctor.machine import message_of
from ray_jobs.doctor.visit import Visit

_REACH_S = 5.0
_NEIGHBOURS = 3
"""Each node sends as much as it can to so many others, one after the other."""


def check_network(visit: Visit) -> bool:
    """Whether all nodes reach each other."""
    secret, failed = secrets.token_bytes(16), dict[str, str]()
    opened: dict[Node, Address] = visit.ask("listen", lambda _, agent: agent.listen.remote(secret), failed)
    places = {node.name: each for node, each in opened.items()}
    linked: dict[Node, dict[str, Link]] = visit.ask(
        "reach the others",
        lambda node, agent: agent.reach.remote(_without(places, node.name), secret, _REACH_S),
        failed,
        list(opened),
    )
    for name, error in failed.items():
        text = f"cannot use the address that Ray has for it: {error}"
        visit.add(name, Check("network", "error", text, "start Ray there with its own --node-ip-address"))
    left = {node.name for node in visit.nodes}
    links = {
        node.name: {peer: link for peer, link in each.items() if peer in left}
        for node, each in linked.items()
        if node.name in left
    }
    whole = not failed and all(link.seconds is not None for each in links.values() for link in each.values())
    if len(links) < 2:
        return whole
    rates = _rates(visit, opened, secret) if whole else {}
    checks = check_links(links, places, rates or {})
    visit.found += [each for each in checks if rates is not None or each.check.status == "error"]
    return whole and rates is not None


def _rates(visit: Visit, opened: Mapping[Node, Address], secret: bytes) -> dict[str, list[float]] | None:
    """Bytes a second of the links that touch each node. At a time, every node sends to one node and receives from one.

    None if large messages do not pass; a check then says so.
    """
    rates: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    for shift in range(1, min(_NEIGHBOURS, len(visit.nodes) - 1) + 1):
        ring = list(visit.nodes)
        to = {node: ring[(number + shift) % len(ring)] for number, node in enumerate(ring)}
        sent = visit.ask(
            "send to another", lambda node, agent, to=to: agent.rate.remote(opened[to[node]], secret), failed
        )
        for name, error in failed.items():
            peer = next((peer.name for node, peer in to.items() if node.name == name), "")
            text = f"small messages pass from it to {peer}, large ones do not: {error}"
            remedy = "compare the MTUs of both nodes' interfaces and of what lies between them"
            visit.add(name, Check("network", "error", text, remedy))
        if failed:
            return None
        for node, rate in sent.items():
            for end in (node, to[node]):
                rates.setdefault(end.name, []).append(rate)
    return rates


class _Rank(NamedTuple):
    node: Node
    device: int | None
    """The GPU; None for gloo on the CPU."""


def check_all_reduce(visit: Visit) -> None:
    """Time the exchange of gradients by NCCL between all GPUs, else by gloo between nodes."""
    ranks = _ranks(visit)
    on_cpu = all(rank.device is None for rank in ranks)
    name = f"all-reduce by {'gloo' if on_cpu else 'NCCL'}"
    if len(ranks) < 2:
        visit.add("", Check(name, "ok", "nothing to measure between fewer than two processes"))
        return
    if on_cpu and _blame_gloo(visit, name, [rank.node for rank in ranks]):
        return
    answered = _start(visit, name, ranks)
    if answered is None:
        return
    failed, lost = _failures(ranks, answered)
    if failed or lost:
        _blame(visit, name, failed, lost)
    else:
        visit.add("", Check(name, "ok", _summary(answered[0], ranks)))


def _ranks(visit: Visit) -> list[_Rank]:
    """One rank for each GPU; where none is to be used, one for each node with CPUs, else one for each node."""
    with_gpus = [node for node in visit.nodes if node.gpus] if visit.job.cluster.use_gpu is not False else []
    if with_gpus:
        return [_Rank(node, device) for node in with_gpus for device in range(node.gpus)]
    return [_Rank(node, None) for node in visit.nodes if node.cpus] or [_Rank(node, None) for node in visit.nodes]


def _start(visit: Visit, name: str, ranks: Sequence[_Rank]) -> list[Any] | None:
    """Let all ranks sum together; each one's answer. None when the first node cannot open the rendezvous."""
    first, timeout_s = ranks[0].node, visit.timeout_s
    served = visit.ask(
        "open a rendezvous", lambda _, agent: agent.serve_rendezvous.remote(len(ranks), timeout_s / 2), {}, [first]
    )
    if first not in served:
        return None
    references: dict[str, Any] = {}
    for number, rank in enumerate(ranks):
        agent = visit.agents[rank.node] if not rank.device else visit.start_agent(rank.node)
        references[str(number)] = agent.all_reduce.remote(served[first], number, len(ranks), rank.device, timeout_s / 2)
    answered = answers(references, timeout_s, f"take part in {name}")
    return [answered[number] for number in references]


def _failures(ranks: Sequence[_Rank], answered: Sequence[Any]) -> tuple[dict[Node, str], dict[Node, Lost]]:
    """By node: the first error that its ranks raised, and why a rank gave no answer."""
    failed: dict[Node, str] = {}
    lost: dict[Node, Lost] = {}
    for rank, answer in zip(ranks, answered, strict=True):
        if isinstance(answer, Lost):
            lost[rank.node] = answer
        elif isinstance(answer, BaseException):
            failed.setdefault(rank.node, message_of(answer))
    return failed, lost


def _blame(visit: Visit, name: str, failed: Mapping[Node, str], lost: Mapping[Node, Lost]) -> None:
    # A node that is silent beside others that failed only waits for them.
    for node, each in lost.items():
        if each.is_gone or not failed:
            visit.lose(node, each)
    if any(each.is_gone for each in lost.values()):
        text = "not measured: a node was lost, and the others waited for it"
        visit.add("", Check(name, "warning", text, "start doctor again without that node"))
        return
    remedy = "plain TCP passes: compare NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME and MTUs of the nodes"
    for node, error in failed.items():
        visit.add(node.name, Check(name, "error", error, remedy))


def _blame_gloo(visit: Visit, name: str, nodes: Sequence[Node]) -> bool:
    """Name the nodes whose gloo listens where no other node reaches it; True where there is one.

    Without GLOO_SOCKET_IFNAME, gloo takes the host name's address, which is 127.0.1.1 in many an /etc/hosts. All
    other nodes would wait for such a node.
    """
    if len({node.address for node in nodes}) < 2:
        return False
    blamed = False
    where = visit.ask("say where gloo listens", lambda _, agent: agent.gloo_address.remote(), {}, nodes)
    for node, (listens, interface) in where.items():
        if listens.startswith(("127.", "::1", "lo")) and not node.address.startswith(("127.", "::1")):
            blamed = True
            text = f"gloo listens on {listens} there, and not on {interface}"
            remedy = f"set GLOO_SOCKET_IFNAME={interface.partition(' ')[0]} for ray start, or correct /etc/hosts"
            visit.add(node.name, Check(name, "error", text, remedy))
    return blamed


def _summary(timings: Sequence[AllReduceTiming], ranks: Sequence[_Rank]) -> str:
    latency, *rest = timings
    sums = [f"{latency.size} B in {1000 * latency.seconds:.2f} ms"]
    for each in rest:
        speed = f"{each.algorithm_bandwidth / 1e6:.0f} MB/s, on the bus {each.bus_bandwidth / 1e6:.0f} MB/s"
        sums.append(f"{each.size / 2**20:.0f} MiB in {1000 * each.seconds:.1f} ms ({speed})")
    return f"{len(ranks)} ranks on {len({rank.node for rank in ranks})} nodes: {'; '.join(sums)}"


def _without(places: Mapping[str, Address], name: str) -> dict[str, Address]:
    return {each: place for each, place in places.items() if each != name}
