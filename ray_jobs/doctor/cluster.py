"""`resnet-dist doctor --cluster.address`: whether a running Ray's nodes can run jobs together, and which one cannot.

It reserves nothing, so it can visit a busy cluster, and it leaves no actor, group or file. Every question has a time
limit; a node that does not answer is named and gets no more questions.
"""

# ray carries few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import time
from typing import Any

import ray
from ray import cloudpickle

import cluster
import data_pipeline
import ray_jobs
import resnet_dist
from cluster.errors import ResourceError
from cluster.health import survey as node_survey
from cluster.health.clock_skew import Exchange, check_clock, estimate_skew
from cluster.health.comparison import (
    compare_images,
    compare_packages,
    compare_sources,
    compare_with_driver,
)
from cluster.health.preflight import Check, NodeCheck
from cluster.health.survey import Survey, survey
from cluster.session.nodes import Lost, Node, living_nodes
from cluster.session.session import ray_session
from ray_jobs.doctor.network import check_all_reduce, check_network
from ray_jobs.doctor.node_agent import NodeAgent
from ray_jobs.doctor.storage import StorageMarks, check_storage
from ray_jobs.doctor.visit import DRIVER, Visit
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig

_AGENT = f"{NodeAgent.__module__.replace('.', '/')}.py"
_OWN_PACKAGES = tuple(each.__name__ for each in (cluster, data_pipeline, ray_jobs, resnet_dist))
_EXCHANGES = 7


def diagnose_cluster(job: JobConfig, timeout_s: float) -> list[NodeCheck]:
    """Every check of every living node of the Ray at `job.cluster.address`, by kind of check.

    `timeout_s`: how long to wait for one answer of a node. Raises ConfigError for an address of another kind, and
    ResourceError if no Ray answers.
    """
    address = job.cluster.address or ""
    if address.startswith(("http://", "https://")):
        raise ConfigError(
            f"cluster.address={address} is a Ray Jobs API, which runs whole jobs, but doctor visits every node "
            'itself: give ray://HOST:10001, "auto" on a node of the cluster, or "none" for this machine alone'
        )
    if not timeout_s > 0:
        raise ConfigError(f"--timeout {timeout_s:g} must be above 0; 60 suits most clusters")
    with ray_session(job.cluster):
        nodes = living_nodes()
        if not nodes:
            raise ResourceError(f"cluster.address={address}: that Ray has no living node; check its head")
        visit = Visit(job, nodes, timeout_s, is_far=address.startswith("ray://"))
        marks = StorageMarks(job.storage.root)
        try:
            _examine(visit, marks)
        finally:
            visit.end()
            marks.remove(visit)
    return visit.found


def _examine(visit: Visit, marks: StorageMarks) -> None:
    _survey(visit)
    if not visit.nodes:
        return
    visit.agents = {node: visit.start_agent(node) for node in visit.nodes}
    checked = visit.ask("check itself", lambda node, agent: agent.checks.remote(visit.job, node.gpus))
    for number in range(max((len(each) for each in checked.values()), default=0)):
        for node, checks in checked.items():
            if number < len(checks):
                visit.add(node.name, checks[number])
    _clocks(visit)
    check_storage(visit, marks)
    if check_network(visit):
        check_all_reduce(visit)


def _survey(visit: Visit) -> None:
    # By value: a node with another image may lack the module.
    cloudpickle.register_pickle_by_value(node_survey)
    try:
        remote_survey: Any = ray.remote(survey)
        visit.agents = {node: remote_survey.options(max_retries=0, **node.pinned()) for node in visit.nodes}
        answered = visit.ask("list what is installed", lambda _, task: task.remote(_OWN_PACKAGES))
    finally:
        cloudpickle.unregister_pickle_by_value(node_survey)
        visit.agents = {}
    surveys = {node: Survey(**values) for node, values in answered.items()}
    for node, each in surveys.items():
        role = "head" if node.is_head else "worker"
        text = f"{role} at {node.address} on {each.hostname}: in Ray {node.cpus} CPUs, {node.gpus} GPUs"
        visit.add(node.name, Check("node", "ok", text))
    by_name = {node.name: each for node, each in surveys.items()}
    if not by_name:
        return
    here = Survey(**survey(_OWN_PACKAGES))
    first = next(iter(by_name.values()))
    with_driver = compare_with_driver(here, first, visit.driver_status)
    visit.found += compare_images(by_name)
    visit.found += compare_packages(by_name)
    visit.add(DRIVER, with_driver[0])
    visit.found += compare_sources(by_name)
    visit.add(DRIVER, with_driver[1])
    # The checks below need this project's code on the node.
    for node, each in surveys.items():
        if _AGENT not in each.sources:
            text = "has no resnet-dist, or one without this command: its other checks are skipped"
            visit.lose(node, Lost(text), "start every node from the same image, or install the same resnet-dist")


def _clocks(visit: Visit) -> None:
    exchanges: dict[Node, list[Exchange]] = {}
    for node in list(visit.nodes):
        for _ in range(_EXCHANGES):
            # Setting the clock in between must not change the measured round trip.
            sent, began = time.time(), time.monotonic()
            theirs = visit.ask("tell the time", lambda _, agent: agent.now.remote(), nodes=[node])
            if node not in theirs:
                break
            exchanges.setdefault(node, []).append(Exchange(sent, theirs[node], sent + time.monotonic() - began))
    for node, each in exchanges.items():
        visit.add(node.name, check_clock(estimate_skew(each)))
