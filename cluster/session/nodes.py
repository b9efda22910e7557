"""The living nodes of a Ray, and their answers to a question that all get at once."""

# ray carries few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_HEAD = "node:__internal_head__"
_ID_SHOWN = 8


@dataclass(frozen=True)
class Node:
    """A machine or pod with a raylet."""

    id: str
    """Ray's, in hex."""
    name: str
    """For people: its name or host name, with its address or id if another node has the same."""
    address: str
    is_head: bool
    cpus: int
    """Logical CPUs that Ray may give away; 0 on most heads."""
    gpus: int

    def pinned(self) -> dict[str, Any]:
        """Options of a remote function or class that runs on this node and no other, however busy it is."""
        return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(self.id, soft=False)}


NodeCapacity = tuple[int, float]
"""Logical CPUs and GPUs that Ray may give away on a node."""


@dataclass(frozen=True)
class Lost:
    """Why a node gave no answer."""

    why: str
    is_gone: bool = True
    """Whether the node or its process has ended; otherwise it is silent."""


def living_nodes() -> list[Node]:
    """All nodes that Ray believes to be alive, the head first."""
    found = [each for each in cast("list[dict[str, Any]]", ray.nodes()) if each["Alive"]]
    found.sort(
        key=lambda each: (_HEAD not in each["Resources"], each["NodeManagerHostname"], each["NodeManagerAddress"])
    )
    names = _names(found)
    return [
        Node(
            id=each["NodeID"],
            name=names[each["NodeID"]],
            address=each["NodeManagerAddress"],
            is_head=_HEAD in each["Resources"],
            cpus=int(each["Resources"].get("CPU", 0)),
            gpus=int(each["Resources"].get("GPU", 0)),
        )
        for each in found
    ]


def node_capacities() -> list[NodeCapacity]:
    """What each living node has, whatever runs there."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(int(each.get("CPU", 0)), float(each.get("GPU", 0))) for each in alive]


def answers(references: Mapping[str, Any], timeout_s: float, question: str) -> dict[str, Any]:
    """The answer of each node by its id; `Lost` where there is none in time. Waits no longer than `timeout_s` for all.

    `references`: the nodes' object references by id. `question`: the request as a verb, for the text of `Lost`. An
    exception that the node's own code raised is an answer: returned as it is.
    """
    until = time.monotonic() + timeout_s
    if references:
        ray.wait(list(references.values()), num_returns=len(references), timeout=timeout_s, fetch_local=False)
    found: dict[str, Any] = {}
    for node, reference in references.items():
        try:
            # An answer is fetched at once. Its node may have gone since, which must not cost the time again.
            found[node] = ray.get(reference, timeout=max(until - time.monotonic(), 1.0))
        except ray.exceptions.GetTimeoutError:
            found[node] = Lost(f"has not answered for {timeout_s:g} s, asked to {question}", is_gone=False)
        except ray.exceptions.RayTaskError as error:
            found[node] = cast("BaseException", error.cause) if error.cause is not None else error
        except ray.exceptions.RayError as error:
            found[node] = Lost(_why(error, question))
    return found


def _why(error: ray.exceptions.RayError, question: str) -> str:
    if isinstance(error, ray.exceptions.RuntimeEnvSetupError):
        return f"could not set up a process: {str(error).splitlines()[0]}"
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "has too little memory: Ray ended the process that checks it"
    if isinstance(error, ray.exceptions.TaskUnschedulableError | ray.exceptions.ActorUnschedulableError):
        return "went away before it was asked"
    # Ray's own text has ids, log paths and a traceback; the class tells a dead node from a dead process.
    return f"died, or its process did, when asked to {question} ({type(error).__name__})"


def _names(found: list[dict[str, Any]]) -> dict[str, str]:
    """By node id: a node's own name, else its host name; with address and id if names are not unique."""
    plain = {
        each["NodeID"]: each["NodeManagerHostname"]
        if each["NodeName"] in {"", each["NodeManagerAddress"]}
        else each["NodeName"]
        for each in found
    }
    placed = {each["NodeID"]: f"{plain[each['NodeID']]} ({each['NodeManagerAddress']})" for each in found}
    exact = {node: f"{name} {node[:_ID_SHOWN]}" for node, name in placed.items()}
    for names in (plain, placed):
        count = Counter(names.values())
        if all(number == 1 for number in count.values()):
            return names
    return exact
