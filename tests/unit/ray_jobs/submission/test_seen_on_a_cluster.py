"""What KubeRay 1.7.0 and Kueue 0.19.2 were seen to do, played by the test server: how commands show and judge it."""

import json
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.kube.client.kinds import CLUSTER_QUEUE, RAY_JOB, WORKLOAD
from tests.kube_server.kueue import pod_sets_of, requests_of
from tests.kube_server.operators import Operators
from tests.kube_server.server import KubeServer
from tests.kube_server.store import WriteOptions
from tests.kube_server.team_queue import add_queue
from tests.laws import examples

JOB = ("--data.root", "/storage/tiles", "--storage.root", "/storage/outputs", "--name", "tiles", "--team", "vision")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def operators(server: KubeServer) -> Operators:
    return Operators(server, "vision")


def state(run: Run) -> tuple[str, str]:
    view = json.loads(run("jobs", "status", "tiles", "--namespace", "vision", "--json")[1])
    return view["state"], view["reason"]


def quota(server: KubeServer, **amounts: str) -> None:
    """Change the only flavor of the team's queue."""
    body = server.store.get(CLUSTER_QUEUE, "", "vision")
    (flavor,) = body["spec"]["resourceGroups"][0]["flavors"]
    for resource in flavor["resources"]:
        resource["nominalQuota"] = amounts.get(resource["name"].rpartition("/")[2], resource["nominalQuota"])
    server.store.replace(CLUSTER_QUEUE, "", "vision", body, WriteOptions())


def test_the_pod_that_submits_is_a_pod_set(server: KubeServer, run: Run, operators: Operators) -> None:
    """A job of exactly the quota waits without end, since the submitter's 0.25 CPUs count, too."""
    add_queue(server)
    assert run("submit", "train", *JOB, "--cluster.num-workers", "2")[0] == 0
    sets = pod_sets_of(operators.job("tiles"))
    assert [(each["name"], each["count"]) for each in sets] == [("head", 1), ("workers", 2), ("submitter", 1)]
    asked = sum((requests_of(each)["cpu"] for each in sets), Fraction(0))
    assert asked == Fraction(41, 4)
    quota(server, cpu="10")
    operators.queue("tiles")
    assert not operators.schedule("tiles")
    kind, reason = state(run)
    assert (kind, reason) == (
        "queued",
        "queue vision: it will never start here: asks for 10.25 CPUs of h100, and there are 10",
    )
    quota(server, cpu="10250m")
    assert operators.schedule("tiles")
    run("jobs", "stop", "tiles", "--namespace", "vision")
    quota(server, cpu="10")
    code, _, err = run("submit", "train", *JOB, "--cluster.num-workers", "2")
    assert code == 2
    assert "10.25 CPUs" in err


@settings(max_examples=examples(0.2), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    workers=st.integers(1, 5),
    gpus=st.integers(0, 6),
    cpus=st.sampled_from(["2", "6", "6250m", "10", "10250m", "24"]),
)
def test_submit_takes_what_kueue_can_admit_and_nothing_else(
    server: KubeServer, run: Run, operators: Operators, workers: int, gpus: int, cpus: str
) -> None:
    if not server.store.objects(CLUSTER_QUEUE):
        add_queue(server)
    quota(server, gpu=str(gpus), cpu=cpus)
    code, _, err = run("submit", "train", *JOB, "--cluster.num-workers", str(workers))
    if code:
        # What it refuses would never start: without its check, Kueue says so, too.
        assert "can never start in queue vision" in err
        quota(server, gpu="64", cpu="64")
        assert run("submit", "train", *JOB, "--cluster.num-workers", str(workers))[0] == 0
        quota(server, gpu=str(gpus), cpu=cpus)
    operators.queue("tiles")
    assert operators.schedule("tiles") is (code == 0)
    if code:
        assert "it will never start here" in state(run)[1]
    for workload in server.store.objects(WORKLOAD, "vision"):
        server.store.delete(WORKLOAD, "vision", workload["metadata"]["name"], {})
    assert run("jobs", "stop", "tiles", "--namespace", "vision")[0] == 0


def test_quota_that_others_use_is_waited_for(server: KubeServer, run: Run, operators: Operators) -> None:
    add_queue(server, gpus=4)
    other = ["earlier" if word == "tiles" else word for word in JOB]
    for words, name in ((other, "earlier"), (JOB, "tiles")):
        assert run("submit", "train", *words, "--cluster.num-workers", "3")[0] == 0
        operators.queue(name)
    assert operators.schedule("earlier")
    assert not operators.schedule("tiles")
    assert state(run) == ("queued", "queue vision: 2 GPUs more of h100 are needed")
    operators.evict("earlier")
    assert operators.schedule("tiles")


@pytest.mark.parametrize(("exit_code", "shown"), [(0, ("done", "")), (3, ("failed", "exit code 3:"))])
def test_an_ended_job_is_not_shown_as_running(
    run: Run, operators: Operators, exit_code: int, shown: tuple[str, str]
) -> None:
    """KubeRay calls its deployment Running for up to 30 s more."""
    assert run("submit", "train", *JOB[:-2], "--namespace", "vision")[0] == 0
    operators.start("tiles")
    operators.run("tiles")
    operators.end_early("tiles", exit_code)
    kind, reason = state(run)
    assert kind == shown[0]
    assert reason.startswith(shown[1])
    assert run("jobs", "wait", "tiles", "--namespace", "vision")[0] == exit_code


def test_a_refusal_that_heals_is_no_reason_for_long(run: Run, operators: Operators) -> None:
    assert run("submit", "train", *JOB[:-2], "--namespace", "vision")[0] == 0
    operators.start("tiles")
    operators.refuse_submitter("tiles")
    assert state(run)[0] == "admitted"
    assert "quota" not in state(run)[1]
    operators.run("tiles")
    assert state(run) == ("running", "")


def test_a_head_is_replaced_within_its_cluster(server: KubeServer, run: Run, operators: Operators) -> None:
    assert run("submit", "train", *JOB[:-2], "--namespace", "vision")[0] == 0
    operators.start("tiles")
    operators.run("tiles")
    operators.say("tiles", "epoch 1")
    cluster = operators.job("tiles")["status"]["rayClusterName"]
    operators.lose_head("tiles")
    kind, reason = state(run)
    assert (kind, reason.split(";")[0]) == ("retrying", "its head is lost")
    operators.replace_head("tiles")
    operators.say("tiles", "resumed")
    assert state(run)[0] == "running"
    assert operators.job("tiles")["status"]["rayClusterName"] == cluster
    assert len(server.store.objects(RAY_JOB, "vision")) == 1
    operators.succeed("tiles")
    assert state(run) == ("done", "")
