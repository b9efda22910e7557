"""An API server that is busy, unwell or away, and answers that are lost: what is asked again, and that it ends."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.errors import ObjectChangedError, SubmissionError, TargetUnreachableError
from cluster.kube.client.api import KubeApi
from cluster.kube.client.kinds import CONFIG_MAP, Object
from cluster.kube.client.outage import Patience
from tests.kube_server.faults import Fault
from tests.kube_server.server import KubeServer
from tests.laws import examples

QUIET = settings(max_examples=examples(0.15), suppress_health_check=[HealthCheck.function_scoped_fixture])


def config_map(**data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": data}


def connected(server: KubeServer, folder: Path, patience: Patience) -> KubeApi:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(server.kubeconfig(folder)))
        return KubeApi.connect(patience=patience)


@pytest.fixture
def curt(patience: Patience) -> Patience:
    """An answer that does not come is soon given up."""
    return replace(patience, read_s=0.3)


troubles = st.lists(
    st.sampled_from([
        ("answer", 500), ("answer", 503), ("answer", 504), ("answer", 429), ("reset", 0), ("lost", 0), ("page", 502),
        ("short", 0),
    ]),
    max_size=4,
)  # fmt: skip


@QUIET
@given(troubles)
def test_a_create_makes_one_object_whatever_becomes_of_its_answers(
    server: KubeServer, api: KubeApi, faults: list[tuple[str, int]]
):
    _fresh(server)
    for trouble, code in faults:
        server.faults.add(Fault(trouble, verb="create", code=code))
    made = api.create(CONFIG_MAP, config_map(key="value"))
    there = server.store.objects(CONFIG_MAP)
    assert there == [made]
    assert len([each for each in server.store.changes if each.kind == CONFIG_MAP]) == 1


@QUIET
@given(troubles)
def test_a_create_under_a_name_that_is_taken_is_refused_whatever_becomes_of_its_answers(
    server: KubeServer, api: KubeApi, faults: list[tuple[str, int]]
):
    _fresh(server)
    theirs = server.store.create(CONFIG_MAP, "default", config_map(key="value"))
    for trouble, code in faults:
        server.faults.add(Fault(trouble, verb="create", code=code))
    with pytest.raises(ObjectChangedError):
        api.create(CONFIG_MAP, config_map(key="value"))
    assert server.store.objects(CONFIG_MAP) == [theirs]


@QUIET
@given(troubles)
def test_a_generated_name_is_given_once(server: KubeServer, api: KubeApi, faults: list[tuple[str, int]]):
    _fresh(server)
    for trouble, code in faults:
        server.faults.add(Fault(trouble, verb="create", code=code))
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "one-"}}
    made = api.create(CONFIG_MAP, body)
    assert made["metadata"]["name"].startswith("one-")
    assert server.store.objects(CONFIG_MAP) == [made]


@QUIET
@given(troubles, st.sampled_from(["update", "patch", "apply", "delete"]))
def test_other_writes_are_done_and_say_so_whatever_becomes_of_their_answers(
    server: KubeServer, api: KubeApi, faults: list[tuple[str, int]], write: str
):
    _fresh(server)
    old = api.create(CONFIG_MAP, config_map(key="old", gone="1"))
    for trouble, code in faults:
        server.faults.add(Fault(trouble, verb="patch" if write == "apply" else write, code=code))
    new = old | {"data": {"key": "new"}}
    match write:
        case "update":
            after = api.replace(CONFIG_MAP, new)
        case "patch":
            version = {"resourceVersion": old["metadata"]["resourceVersion"]}
            after = api.patch(CONFIG_MAP, "one", {"metadata": version, "data": {"key": "new", "gone": None}})
        case "apply":
            after = api.apply(CONFIG_MAP, config_map(other="1"))
            new = old | {"data": {"key": "old", "gone": "1", "other": "1"}}
        case _:
            after = api.delete(CONFIG_MAP, "one")
    there = server.store.objects(CONFIG_MAP)
    assert there == ([] if after is None else [after])
    assert after is None or after["data"] == new["data"]


def _fresh(server: KubeServer) -> None:
    server.faults.clear()
    for body in server.store.objects(CONFIG_MAP):
        server.store.delete(CONFIG_MAP, "default", body["metadata"]["name"])
    server.store.changes.clear()
    server.store.oldest = server.store.version


def test_an_answer_that_never_comes_is_given_up_and_what_it_was_for_is_not_done_twice(
    server: KubeServer, curt: Patience, tmp_path: Path
):
    api = connected(server, tmp_path, curt)
    server.faults.add(Fault("silent", verb="create"))
    made = api.create(CONFIG_MAP, config_map())
    assert server.store.objects(CONFIG_MAP) == [made]
    assert server.count("create") == 2


def test_another_writer_that_took_the_name_meanwhile_is_not_taken_for_us(server: KubeServer, api: KubeApi):
    """The first try is carried out and its answer lost, then the object goes, and another one takes its name."""
    server.faults.add(Fault("lost", verb="create"))
    server.faults.add(Fault("answer", verb="create", code=503, retry_after=0.3))
    result: list[object] = []

    def create() -> None:
        try:
            result.append(api.create(CONFIG_MAP, config_map()))
        except ObjectChangedError as error:
            result.append(error)

    thread = threading.Thread(target=create)
    thread.start()
    with server.store.changed:
        assert server.store.changed.wait_for(lambda: server.store.objects(CONFIG_MAP), 5)
        server.store.delete(CONFIG_MAP, "default", "one")
        theirs = server.store.create(CONFIG_MAP, "default", config_map())
    thread.join()
    assert isinstance(result[0], ObjectChangedError)
    assert server.store.objects(CONFIG_MAP) == [theirs]


@pytest.mark.parametrize("code", [429, 503])
def test_a_busy_server_is_asked_again_when_it_wants(server: KubeServer, api: KubeApi, code: int):
    server.faults.add(Fault("answer", 2, code=code, retry_after=0.2))
    began = time.monotonic()
    assert api.list(CONFIG_MAP) == []
    assert time.monotonic() - began >= 0.4
    assert len(server.requests) == 3


def test_a_server_that_is_busy_for_longer_than_we_wait_is_left_alone(server: KubeServer, api: KubeApi):
    server.faults.add(Fault("answer", code=429, retry_after=3600, message="too many requests"))
    began = time.monotonic()
    with pytest.raises(TargetUnreachableError, match=r"429 .*too many requests, which asks to wait for 3600 s"):
        api.list(CONFIG_MAP)
    assert time.monotonic() - began < 60
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", [400, 403, 405, 409, 413, 415, 422, 501])
def test_what_is_refused_for_good_is_asked_once(server: KubeServer, api: KubeApi, code: int):
    server.faults.add(Fault("answer", 5, verb="list", code=code, message="no"))
    with pytest.raises(SubmissionError, match="no"):
        api.list(CONFIG_MAP)
    assert len(server.requests) == 1


def test_a_server_that_restarts_is_waited_for(server: KubeServer, api: KubeApi):
    made = api.create(CONFIG_MAP, config_map())
    restart = server.restart_after(0.5)
    assert api.list(CONFIG_MAP) == [made]
    restart.join()


@pytest.mark.parametrize("trouble", ["away", "answer", "reset", "page", "silent"])
def test_a_server_that_stays_away_is_given_up_after_the_time_we_wait(
    server: KubeServer, hasty: Patience, tmp_path: Path, trouble: str
):
    api = connected(server, tmp_path, replace(hasty, outage_s=1, read_s=0.2))
    api.list(CONFIG_MAP)
    if trouble == "away":
        server.stop()
    else:
        server.faults.add(Fault(trouble, 10_000, code=503))
    server.requests.clear()
    began = time.monotonic()
    with pytest.raises(TargetUnreachableError) as given_up:
        api.create(CONFIG_MAP, config_map())
    assert 0.2 < time.monotonic() - began < 60
    said = str(given_up.value)
    assert said.startswith(f"the Kubernetes API server {server.url} has not answered for ")
    assert "kubectl version" in said
    assert trouble == "away" or len(server.requests) > 1


def test_an_address_that_never_answered_is_given_up_sooner(server: KubeServer, patience: Patience, tmp_path: Path):
    api = connected(server, tmp_path, replace(patience, outage_s=60, unknown_s=0.2))
    server.stop()
    began = time.monotonic()
    with pytest.raises(TargetUnreachableError):
        api.list(CONFIG_MAP)
    assert time.monotonic() - began < 60


def test_pauses_grow_to_a_limit_and_differ():
    patience = Patience(first_pause_s=1, longest_pause_s=8)
    tries = [[pause for pause, _ in zip(patience.pauses(), range(6), strict=False)] for _ in range(20)]
    for number, most in enumerate([1, 2, 4, 8, 8, 8]):
        pauses = [each[number] for each in tries]
        assert all(most / 2 <= pause <= most for pause in pauses)
        assert len(set(pauses)) > 1


def test_a_long_outage_is_mentioned(
    server: KubeServer, api: KubeApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("cluster.kube.client.outage._UNMENTIONED_S", 0.01)
    server.faults.add(Fault("answer", 20))
    api.list(CONFIG_MAP)
    assert caplog.text.count("does not answer (503") == 1
