"""`resnet-dist doctor --cluster.address`: whether a running Ray's nodes can run jobs together, and which one cannot.

Nothing is reserved, so a cluster that is at work can be asked, and nothing is left: no actor, group or file. Every
question has its time; a node that gives no answer is named, and not asked again.
"""

# ray carries few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import ray
import ray.exceptions
from ray import cloudpickle

from cluster import node_survey
from cluster.clock_skew import Exchange, estimate_skew
from cluster.errors import ResourceError, StorageError
from cluster.node_comparison import (
    NodeCheck,
    check_clock,
    check_links,
    compare_images,
    compare_packages,
    compare_sources,
    compare_with_driver,
)
from cluster.node_survey import Survey, survey
from cluster.nodes import Lost, Node, answers, living_nodes
from cluster.peer_links import Address, Link
from cluster.preflight import Check
from cluster.ray_session import ray_session
from cluster.shared_storage import Mark, name_of, outsiders, unseen
from cluster.storage import Store
from ray_jobs.all_reduce_timing import Timing
from ray_jobs.config import JobConfig
from ray_jobs.errors import ConfigError
from ray_jobs.node_agent import NodeAgent

DRIVER = "this machine"
_AGENT = "ray_jobs/node_agent.py"
_EXCHANGES = 7
_REACH_S = 5.0
_NEIGHBOURS = 3
"""To so many others each node sends as much as it can, for a while."""
_LOST_REMEDY = (
    "look after that node and its raylet (kubectl describe pod, top, dmesg); replace it, or end what fills it"
)

Answers = dict[Node, Any]


def diagnose_cluster(job: JobConfig, timeout_s: float) -> list[NodeCheck]:
    """Every check of every living node of the Ray at `job.cluster.address`, by kind of check.

    `timeout_s`: how long one answer of a node is waited for. Raises ConfigError for an address that is no Ray's own,
    ResourceError where no Ray answers.
    """
    address = job.cluster.address or ""
    if address.startswith(("http://", "https://")):
        raise ConfigError(
            f"cluster.address={address} is a Ray Jobs API, which runs whole jobs; doctor asks every node itself: give "
            'ray://HOST:10001, "auto" on a node of the cluster, or "none" for this machine alone'
        )
    if not timeout_s > 0:
        raise ConfigError(f"--timeout {timeout_s:g} must be above 0; 60 suits most clusters")
    with ray_session(job.cluster):
        nodes = living_nodes()
        if not nodes:
            raise ResourceError(f"cluster.address={address}: that Ray has no living node; look at its head")
        examination = _Examination(job, nodes, timeout_s, is_far=address.startswith("ray://"))
        try:
            examination.run()
        finally:
            examination.clean_up()
    return examination.found


class _Examination:
    """One visit to all nodes. `found` grows check by check; `nodes` are those that still answer."""

    def __init__(self, job: JobConfig, nodes: list[Node], timeout_s: float, *, is_far: bool) -> None:
        self._job = job
        self._nodes = nodes
        self._timeout_s = timeout_s
        # This process is not on any node: what is wrong with it stops only jobs that are started from here.
        self._driver_status = "warning" if is_far else "error"
        self._root = Store.open(job.storage.root).uri
        self._token = secrets.token_hex(8)
        self._secret = secrets.token_bytes(16)
        self._agents: dict[Node, Any] = {}
        self._started: list[Any] = []
        self._here: Mark | None = None
        self._marked: list[str] = []
        self.found: list[NodeCheck] = []

    def run(self) -> None:
        self._survey()
        if not self._nodes:
            return
        self._agents = {node: self._start_agent(node) for node in self._nodes}
        checked = self._ask("check itself", lambda node, agent: agent.checks.remote(self._job, node.gpus))
        for number in range(max((len(each) for each in checked.values()), default=0)):
            for node, checks in checked.items():
                if number < len(checks):
                    self._add(node.name, checks[number])
        self._clocks()
        self._storage()
        if self._network():
            self._all_reduce()

    def clean_up(self) -> None:
        """End every process and remove every file that may be left; what cannot be removed is named."""
        for agent in self._started:
            with suppress(Exception):  # whatever Ray says of a node that is gone
                ray.kill(agent, no_restart=True)
        store = Store.open(self._root)
        for owner in self._marked:
            try:
                store.delete(name_of(self._token, owner))
            except StorageError as error:
                self._add(DRIVER, Check("storage root", "warning", f"left behind: {error}", "delete that file"))
        if self._here is not None:
            self._here.remove_folders()

    def _start_agent(self, node: Node) -> Any:
        kind: Any = ray.remote(NodeAgent)
        agent = kind.options(**node.pinned()).remote(node.address)
        self._started.append(agent)
        return agent

    def _survey(self) -> None:
        # By value: on a node of another image there may be no such module.
        cloudpickle.register_pickle_by_value(node_survey)
        try:
            asked: Any = ray.remote(survey)
            self._agents = {node: asked.options(max_retries=0, **node.pinned()) for node in self._nodes}
            answered = self._ask("say what is installed", lambda _, task: task.remote())
        finally:
            cloudpickle.unregister_pickle_by_value(node_survey)
            self._agents = {}
        surveys = {node: Survey(**values) for node, values in answered.items()}
        for node, each in surveys.items():
            role = "head" if node.is_head else "worker"
            text = f"{role} at {node.address} on {each.hostname}: in Ray {node.cpus} CPUs, {node.gpus} GPUs"
            self._add(node.name, Check("node", "ok", text))
        by_name = {node.name: each for node, each in surveys.items()}
        if not by_name:
            return
        here = Survey(**survey())
        first = next(iter(by_name.values()))
        with_driver = compare_with_driver(here, first, self._driver_status)
        self.found += compare_images(by_name)
        self.found += compare_packages(by_name)
        self._add(DRIVER, with_driver[0])
        self.found += compare_sources(by_name)
        self._add(DRIVER, with_driver[1])
        # What follows is done by this project's own code.
        for node, each in surveys.items():
            if _AGENT not in each.sources:
                text = "has no resnet-dist, or one without this command: the other checks are left out there"
                self._lose(node, Lost(text), "start every node from the same image, or install the same resnet-dist")

    def _clocks(self) -> None:
        exchanges: dict[Node, list[Exchange]] = {}
        for node in list(self._nodes):
            for _ in range(_EXCHANGES):
                # A clock that is set in between must not make the way there and back longer or shorter.
                sent, began = time.time(), time.monotonic()
                theirs = self._ask("tell the time", lambda _, agent: agent.now.remote(), nodes=[node])
                if node not in theirs:
                    break
                exchanges.setdefault(node, []).append(Exchange(sent, theirs[node], sent + time.monotonic() - began))
        for node, each in exchanges.items():
            self._add(node.name, check_clock(estimate_skew(each)))

    def _storage(self) -> None:
        """Every node and this process write a file, and each looks for those of all others."""
        root, token = self._root, self._token
        owners = {node: node.id for node in self._nodes}
        remedy = "grant access, mount it on every node, or choose another --storage.root"
        failed: dict[str, str] = {}
        here = self._here = Mark(root, token, "driver")
        self._marked = [*owners.values(), "driver"]
        try:
            here.write()
        except StorageError as error:
            failed[DRIVER] = str(error)
        wrote = self._ask(
            "write to storage.root", lambda node, agent: agent.write_mark.remote(root, token, owners[node]), failed
        )
        names = {owners[node]: node.name for node in wrote} | ({} if DRIVER in failed else {"driver": DRIVER})
        seen = self._ask(
            "read from storage.root",
            lambda _, agent: agent.unseen.remote(root, token, list(names)),
            failed,
            list(wrote),
        )
        blind: dict[str, dict[str, str]] = {node.name: each for node, each in seen.items()}
        if DRIVER not in failed:
            blind[DRIVER] = unseen(root, token, names)
        # A node that was lost in between is named for that.
        blind = {
            name: {names[owner]: why for owner, why in each.items() if names[owner] in blind}
            for name, each in blind.items()
        }
        self._ask("remove its file from storage.root", lambda _, agent: agent.remove_mark.remote(), failed, list(wrote))
        with suppress(StorageError):
            here.remove()
        self._ask("remove its folder", lambda _, agent: agent.remove_folders.remote(), failed, list(wrote))
        self._marked = [owner for node, owner in owners.items() if node not in self._nodes]

        apart = outsiders(blind)
        for name in blind:
            if name not in apart and name not in failed:
                text = f"{root}: written, read by all others and removed"
                self._add(name, Check("storage root", "ok", text))
        local = "" if "://" in self._root else f"; {self._root} is a folder of each machine's own unless it is a mount"
        for name, others in apart.items():
            why = next((blind[name][other] for other in others if other in blind[name]), "")
            text = f"{root} is not what {_some(others)} has{f' ({why})' if why else ''}{local}"
            self._add(name, Check("storage root", self._status(name), text, remedy))
        for name, error in failed.items():
            if name not in apart:
                self._add(name, Check("storage root", self._status(name), error, remedy))

    def _network(self) -> bool:
        """Whether all nodes reach each other."""
        failed: dict[str, str] = {}
        opened: dict[Node, Address] = self._ask("listen", lambda _, agent: agent.listen.remote(self._secret), failed)
        places = {node.name: each for node, each in opened.items()}
        linked: dict[Node, dict[str, Link]] = self._ask(
            "reach the others",
            lambda node, agent: agent.reach.remote(_without(places, node.name), self._secret, _REACH_S),
            failed,
            list(opened),
        )
        for name, error in failed.items():
            text = f"cannot use the address that Ray has of it: {error}"
            self._add(name, Check("network", "error", text, "start Ray there with its own --node-ip-address"))
        left = {node.name for node in self._nodes}
        links = {
            node.name: {peer: link for peer, link in each.items() if peer in left}
            for node, each in linked.items()
            if node.name in left
        }
        whole = not failed and all(link.seconds is not None for each in links.values() for link in each.values())
        if len(links) < 2:
            return whole
        rates = self._rates(opened) if whole else {}
        checks = check_links(links, places, rates or {})
        self.found += [each for each in checks if rates is not None or each.check.status == "error"]
        return whole and rates is not None

    def _rates(self, opened: Mapping[Node, Address]) -> dict[str, list[float]] | None:
        """Bytes a second of the links that touch each node; every node sends to one other, and hears one, at a time.

        None where large messages do not pass, which is then found.
        """
        rates: dict[str, list[float]] = {}
        failed: dict[str, str] = {}
        for shift in range(1, min(_NEIGHBOURS, len(self._nodes) - 1) + 1):
            ring = list(self._nodes)
            to = {node: ring[(number + shift) % len(ring)] for number, node in enumerate(ring)}
            sent = self._ask(
                "send to another", lambda node, agent, to=to: agent.rate.remote(opened[to[node]], self._secret), failed
            )
            for name, error in failed.items():
                peer = next((peer.name for node, peer in to.items() if node.name == name), "")
                text = f"small messages pass from it to {peer}, large ones do not: {error}"
                remedy = "compare the MTUs of both nodes' interfaces and of what lies between them"
                self._add(name, Check("network", "error", text, remedy))
            if failed:
                return None
            for node, rate in sent.items():
                for end in (node, to[node]):
                    rates.setdefault(end.name, []).append(rate)
        return rates

    def _all_reduce(self) -> None:
        with_gpus = [node for node in self._nodes if node.gpus] if self._job.cluster.use_gpu is not False else []
        nodes = with_gpus or [node for node in self._nodes if node.cpus] or self._nodes
        ranks = [(node, device) for node in with_gpus for device in range(node.gpus)] or [
            (node, None) for node in nodes
        ]
        name = f"all-reduce by {'NCCL' if with_gpus else 'gloo'}"
        if len(ranks) < 2:
            self._add("", Check(name, "ok", "nothing to measure between fewer than two processes"))
            return
        if not with_gpus and self._blame_gloo(name, nodes):
            return
        first, timeout_s = ranks[0][0], self._timeout_s
        served = self._ask(
            "open a rendezvous", lambda _, agent: agent.serve_rendezvous.remote(len(ranks), timeout_s / 2), {}, [first]
        )
        if first not in served:
            return
        asked: dict[str, Any] = {}
        for rank, (node, device) in enumerate(ranks):
            agent = self._agents[node] if not device else self._start_agent(node)
            asked[str(rank)] = agent.all_reduce.remote(served[first], rank, len(ranks), device, timeout_s / 2)
        answered = answers(asked, timeout_s, f"take part in {name}")
        failed: dict[Node, str] = {}
        lost: dict[Node, Lost] = {}
        for rank, (node, _) in enumerate(ranks):
            answer = answered[str(rank)]
            if isinstance(answer, Lost):
                lost[node] = answer
            elif isinstance(answer, BaseException):
                failed.setdefault(node, _first_line(answer))
        if not failed and not lost:
            self._add("", Check(name, "ok", _said(answered["0"], [node for node, _ in ranks])))
            return
        # Whoever is silent beside others that failed only waits for them.
        for node, each in lost.items():
            if each.is_gone or not failed:
                self._lose(node, each)
        if any(each.is_gone for each in lost.values()):
            text = "not measured: a node was lost, and the others waited for it"
            self._add("", Check(name, "warning", text, "start doctor again without that node"))
            return
        for node, error in failed.items():
            remedy = "plain TCP passes: compare NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME and MTUs of the nodes"
            self._add(node.name, Check(name, "error", error, remedy))

    def _blame_gloo(self, name: str, nodes: Sequence[Node]) -> bool:
        """Whether some nodes' gloo listens where no other node reaches it, which then is found.

        Without an interface it goes by the host name, which is 127.0.1.1 in many a /etc/hosts; all others would wait
        for such a node.
        """
        if len({node.address for node in nodes}) < 2:
            return False
        blamed = False
        where = self._ask("say where gloo listens", lambda _, agent: agent.gloo_address.remote(), {}, nodes)
        for node, (listens, interface) in where.items():
            if listens.startswith(("127.", "::1", "lo")) and not node.address.startswith(("127.", "::1")):
                blamed = True
                text = f"gloo listens on {listens} there, and not on {interface}"
                remedy = f"set GLOO_SOCKET_IFNAME={interface.partition(' ')[0]} for ray start, or mend /etc/hosts"
                self._add(node.name, Check(name, "error", text, remedy))
        return blamed

    def _ask(
        self,
        question: str,
        call: Callable[[Node, Any], Any],
        failed: dict[str, str] | None = None,
        nodes: Sequence[Node] | None = None,
    ) -> Answers:
        """The answers of all nodes (or of those given that still answer). A node without one is lost.

        `failed`: takes the errors of the nodes' own code, by name; without it they are checks that failed.
        """
        chosen = [node for node in (self._nodes if nodes is None else nodes) if node in self._nodes]
        asked: dict[str, Any] = {}
        for node in chosen:
            try:
                asked[node.id] = call(node, self._agents[node])
            except ray.exceptions.RayError as error:  # an actor that is known to be dead
                self._lose(node, Lost(f"died before it was asked to {question} ({type(error).__name__})"))
        found: Answers = {}
        by_id = {node.id: node for node in chosen}
        for id_, answer in answers(asked, self._timeout_s, question).items():
            node = by_id[id_]
            if isinstance(answer, Lost):
                self._lose(node, answer)
            elif not isinstance(answer, BaseException):
                found[node] = answer
            elif failed is not None:
                failed.setdefault(node.name, _first_line(answer))
            else:
                self._lose(node, Lost(f"could not {question}: {_first_line(answer)}"))
        return found

    def _lose(self, node: Node, lost: Lost, remedy: str = _LOST_REMEDY) -> None:
        if node in self._nodes:
            self._nodes.remove(node)
            self._add(node.name, Check("answers", "error", lost.why, remedy))

    def _add(self, name: str, check: Check) -> None:
        self.found.append(NodeCheck(name, check))

    def _status(self, name: str) -> Any:
        return self._driver_status if name == DRIVER else "error"


def _said(timings: Sequence[Timing], nodes: Sequence[Node]) -> str:
    latency, *rest = timings
    sums = [f"{latency.size} B in {1000 * latency.seconds:.2f} ms"]
    for each in rest:
        speed = f"{each.algorithm_bandwidth / 1e6:.0f} MB/s, on the bus {each.bus_bandwidth / 1e6:.0f} MB/s"
        sums.append(f"{each.size / 2**20:.0f} MiB in {1000 * each.seconds:.1f} ms ({speed})")
    return f"{len(nodes)} ranks on {len(set(nodes))} nodes: {'; '.join(sums)}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _without(places: Mapping[str, Address], name: str) -> dict[str, Address]:
    return {each: place for each, place in places.items() if each != name}


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
