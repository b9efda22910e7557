"""What a container prints arrives once and in order, through streams that break."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.errors import NoSuchObjectError, SubmissionError, TargetUnreachableError
from cluster.kube.client.api import KubeApi
from cluster.kube.client.kinds import POD, Object
from cluster.kube.client.outage import Patience
from tests.kube_server.faults import Fault
from tests.kube_server.server import KubeServer
from tests.laws import examples

CONTAINER = ("default", "night", "ray-head")
RUNNING = {"running": {}}
ENDED = {"terminated": {"exitCode": 0}}


def set_states(server: KubeServer, phase: str = "Running", **states: Object) -> None:
    statuses = [
        {"name": name, "image": "", "imageID": "", "ready": True, "restartCount": 0, "state": state}
        for name, state in states.items()
    ]
    server.store.patch(
        POD, "default", "night", {"status": {"phase": phase, "containerStatuses": statuses}}, part="status"
    )


@pytest.fixture
def pod(server: KubeServer) -> KubeServer:
    """A server with a pod whose only container runs."""
    spec = {"containers": [{"name": "ray-head", "image": "resnet-dist:0.2.0-cpu"}]}
    server.store.create(
        POD, "default", {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "night"}, "spec": spec}
    )
    set_states(server, **{"ray-head": RUNNING})
    return server


def end(server: KubeServer) -> None:
    set_states(server, "Succeeded", **{"ray-head": ENDED})
    server.logs.end(CONTAINER)


def test_what_is_there_is_read(api: KubeApi, pod: KubeServer):
    assert list(api.pod_log("night", follow=False)) == []
    lines = ["one", "", "  two  ", "drei: größer \u2713", "one"]
    pod.logs.say(CONTAINER, *lines)
    assert list(api.pod_log("night", follow=False)) == lines
    assert list(api.pod_log("night", "ray-head", follow=False)) == lines


def test_lines_since_a_time(api: KubeApi, pod: KubeServer):
    pod.logs.say(CONTAINER, "old", time="2026-01-01T00:00:00.000000001Z")
    pod.logs.say(CONTAINER, "new", time="2026-01-01T00:00:09.5Z")
    assert list(api.pod_log("night", follow=False, since_time="2026-01-01T00:00:05Z")) == ["new"]


def test_what_comes_is_followed_until_the_container_has_ended(api: KubeApi, pod: KubeServer):
    log = api.pod_log("night", follow=True)
    for number in range(3):
        pod.logs.say(CONTAINER, f"line {number}")
        assert next(log) == f"line {number}"
    pod.logs.say(CONTAINER, "last")
    end(pod)
    assert list(log) == ["last"]


def test_a_container_that_has_not_started_has_no_lines(api: KubeApi, pod: KubeServer):
    set_states(pod, "Pending", **{"ray-head": {"waiting": {"reason": "ImagePullBackOff"}}})
    assert list(api.pod_log("night", follow=True)) == []
    assert list(api.pod_log("night", follow=False)) == []


def test_no_such_pod_or_container_and_no_permission(api: KubeApi, pod: KubeServer):
    with pytest.raises(NoSuchObjectError, match="get Pod 'day' in namespace default: there is none"):
        next(api.pod_log("day", follow=True))
    with pytest.raises(SubmissionError, match="container nix is not valid for pod night"):
        next(api.pod_log("night", "nix", follow=True))
    pod.deny("get", "pods/log")
    with pytest.raises(SubmissionError, match=r"cannot get .*ask for a Role with verb get on pods/log"):
        next(api.pod_log("night", follow=True))


def test_a_pod_that_goes_ends_its_log(api: KubeApi, pod: KubeServer):
    log = api.pod_log("night", follow=True)
    pod.logs.say(CONTAINER, "one")
    assert next(log) == "one"
    pod.store.delete(POD, "default", "night")
    pod.logs.end(CONTAINER)
    assert list(log) == []


def test_a_proxys_page_is_not_the_end_of_a_log(api: KubeApi, pod: KubeServer):
    pod.faults.add(Fault("reset", path="/log"))
    pod.faults.add(Fault("page", 10, path="/night", code=404))
    with pytest.raises(SubmissionError):
        list(api.pod_log("night", follow=True))


def test_a_silent_log_is_gone_on_with(api: KubeApi, pod: KubeServer, patience: Patience):
    log = api.pod_log("night", follow=True)
    pod.logs.say(CONTAINER, "one")
    assert next(log) == "one"
    timer = threading.Timer(patience.silent_log_s * 3, lambda: (pod.logs.say(CONTAINER, "two"), end(pod)))
    timer.start()
    assert list(log) == ["two"]
    timer.join()
    assert pod.count("get", "/log") > 2


def test_a_silence_longer_than_an_outage_is_none(pod: KubeServer, hasty: Patience, tmp_path: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(pod.kubeconfig(tmp_path)))
        log = KubeApi.connect(patience=replace(hasty, silent_log_s=0.05)).pod_log("night", follow=True)
    timer = threading.Timer(hasty.outage_s * 4, lambda: (pod.logs.say(CONTAINER, "one"), end(pod)))
    timer.start()
    assert list(log) == ["one"]
    timer.join()


def test_a_server_that_stays_away_is_given_up(pod: KubeServer, hasty: Patience, tmp_path: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(pod.kubeconfig(tmp_path)))
        log = KubeApi.connect(patience=hasty).pod_log("night", follow=True)
    pod.logs.say(CONTAINER, "one")
    assert next(log) == "one"
    pod.stop()
    began = time.monotonic()
    with pytest.raises(TargetUnreachableError):
        list(log)
    assert time.monotonic() - began < 60


def test_a_server_that_restarts_in_mid_log_is_waited_for(api: KubeApi, pod: KubeServer):
    log = api.pod_log("night", follow=True)
    pod.logs.say(CONTAINER, "one", "two")
    assert [next(log), next(log)] == ["one", "two"]
    restart = pod.restart_after(0.3)
    pod.logs.say(CONTAINER, "three")
    end(pod)
    assert list(log) == ["three"]
    restart.join()


SECONDS = st.integers(0, 1)
FRACTIONS = st.sampled_from(["", ".1", ".12", ".100000001"])
BREAKS = st.tuples(st.sampled_from(["cut", "cut line", "half-closed", "reset", "answer", "short"]), st.integers(0, 4))


@settings(max_examples=examples(0.2), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(SECONDS, FRACTIONS), max_size=12), st.lists(BREAKS, max_size=6), st.integers(0, 12))
def test_no_line_is_lost_and_none_comes_twice(
    api: KubeApi, pod: KubeServer, stamps: list[tuple[int, str]], breaks: list[tuple[str, int]], before: int
):
    pod.faults.clear()
    pod.logs.lines.clear()
    pod.logs.ended.clear()
    set_states(pod, **{"ray-head": RUNNING})
    stamps.sort(key=lambda each: (each[0], each[1].lstrip(".").ljust(9, "0")))
    said = [f"line {number % 3}" for number in range(len(stamps))]
    for trouble, after in breaks:
        pod.faults.add(Fault(trouble, path="/log", after=after))
    for at, (line, (second, fraction)) in enumerate(zip(said, stamps, strict=True)):
        if at == before:
            break
        pod.logs.say(CONTAINER, line, time=f"2026-01-01T00:00:0{second}{fraction}Z")
    log = api.pod_log("night", follow=True)
    seen = [next(log) for _ in range(min(before, len(said)) // 2)]
    for line, (second, fraction) in list(zip(said, stamps, strict=True))[before:]:
        pod.logs.say(CONTAINER, line, time=f"2026-01-01T00:00:0{second}{fraction}Z")
    end(pod)
    assert seen + list(log) == said


@pytest.mark.parametrize("trouble", ["cut", "cut line", "half-closed"])
@pytest.mark.parametrize("after", range(5))
def test_lines_of_one_moment_that_a_stream_breaks_between_come_once_each(
    api: KubeApi, pod: KubeServer, trouble: str, after: int
):
    said = ["one", "two", "two", "three"]
    pod.logs.say(CONTAINER, *said, time="2026-01-01T00:00:00.5Z")
    pod.faults.add(Fault(trouble, 3, path="/log", after=after))
    timer = threading.Timer(0.3, lambda: (pod.logs.say(CONTAINER, "last", time="2026-01-01T00:00:00.5Z"), end(pod)))
    timer.start()
    assert list(api.pod_log("night", follow=True)) == [*said, "last"]
    timer.join()
