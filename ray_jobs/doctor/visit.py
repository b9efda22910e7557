"""A visit to all nodes of a running Ray: its questions, the nodes that no longer answer, and the checks found."""

# ray carries few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import ray
import ray.exceptions

from cluster.health.preflight import Check, NodeCheck, Status
from cluster.session.nodes import Lost, Node, answers
from ray_jobs.doctor.machine import message_of
from ray_jobs.doctor.node_agent import NodeAgent
from ray_jobs.job.config import JobConfig

DRIVER = "this machine"
_LOST_REMEDY = "look at that node and its raylet (kubectl describe pod, top, dmesg); replace it, or end what fills it"

Answers = dict[Node, Any]


class Visit:
    """`found` grows check by check; `nodes` are those that still answer."""

    def __init__(self, job: JobConfig, nodes: list[Node], timeout_s: float, *, is_far: bool) -> None:
        """`timeout_s`: how long to wait for one answer of a node; `is_far`: this process runs on no node."""
        self.job = job
        self.nodes = nodes
        self.timeout_s = timeout_s
        # A fault of a far machine stops only jobs that are started from it.
        self.driver_status: Status = "warning" if is_far else "error"
        self.agents: dict[Node, Any] = {}
        self.found: list[NodeCheck] = []
        self._started: list[Any] = []

    def end(self) -> None:
        """End every process that was started."""
        for agent in self._started:
            with suppress(Exception):  # Ray may raise anything for a node that is gone
                ray.kill(agent, no_restart=True)

    def start_agent(self, node: Node) -> Any:
        """Start the agent's process on a node."""
        kind: Any = ray.remote(NodeAgent)
        agent = kind.options(**node.pinned()).remote(node.address)
        self._started.append(agent)
        return agent

    def ask(
        self,
        question: str,
        call: Callable[[Node, Any], Any],
        failed: dict[str, str] | None = None,
        nodes: Sequence[Node] | None = None,
    ) -> Answers:
        """The answers of all nodes, or of those among `nodes` that still answer. A node without an answer is lost.

        `failed` collects errors that the nodes' own code raised, by name. Without it, such a node is lost, too.
        """
        chosen = [node for node in (self.nodes if nodes is None else nodes) if node in self.nodes]
        references: dict[str, Any] = {}
        for node in chosen:
            try:
                references[node.id] = call(node, self.agents[node])
            except ray.exceptions.RayError as error:  # Ray knows that the actor is dead
                self.lose(node, Lost(f"died before it was asked to {question} ({type(error).__name__})"))
        found: Answers = {}
        by_id = {node.id: node for node in chosen}
        for id_, answer in answers(references, self.timeout_s, question).items():
            node = by_id[id_]
            if isinstance(answer, Lost):
                self.lose(node, answer)
            elif not isinstance(answer, BaseException):
                found[node] = answer
            elif failed is not None:
                failed.setdefault(node.name, message_of(answer))
            else:
                self.lose(node, Lost(f"could not {question}: {message_of(answer)}"))
        return found

    def lose(self, node: Node, lost: Lost, remedy: str = _LOST_REMEDY) -> None:
        """Record a node that no longer answers; it gets no more questions."""
        if node in self.nodes:
            self.nodes.remove(node)
            self.add(node.name, Check("answers", "error", lost.why, remedy))

    def add(self, name: str, check: Check) -> None:
        """Record a check of a node; "" stands for all nodes together."""
        self.found.append(NodeCheck(name, check))

    def status(self, name: str) -> Status:
        """The status of a fault on a node or on this machine."""
        return self.driver_status if name == DRIVER else "error"
