"""A watch's view is the server's objects, whatever becomes of its streams."""

import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.errors import SubmissionError, TargetUnreachableError
from cluster.kube.client.api import KubeApi
from cluster.kube.client.kinds import CONFIG_MAP, RAY_JOB, Object
from cluster.kube.client.patience import Patience
from tests.kube_server.server import KubeServer
from tests.laws import examples

Watching = Generator[Object | None]


def config_map(name: str, labels: dict[str, str] | None = None, **data: str) -> Object:
    metadata: Object = {"name": name} | ({"labels": labels} if labels else {})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def until_quiet(watch: Watching) -> list[Object]:
    """What a watch has to say until nothing changes any more."""
    return list(iter(lambda: next(watch), None))


def described(events: list[Object]) -> list[tuple[str, bool]]:
    return [(each["metadata"]["name"], "deletionTimestamp" in each["metadata"]) for each in events]


@pytest.fixture
def watch(api: KubeApi, server: KubeServer) -> Watching:
    """A watch that has said that "one" is there."""
    server.store.create(CONFIG_MAP, "default", config_map("one"))
    watch = api.watch(CONFIG_MAP)
    assert described(until_quiet(watch)) == [("one", False)]
    return watch


def test_changes_come_one_by_one_and_in_order(server: KubeServer, watch: Watching):
    versions = [
        server.store.patch(CONFIG_MAP, "default", "one", {"data": {"at": str(number)}})["metadata"]["resourceVersion"]
        for number in range(5)
    ]
    server.store.delete(CONFIG_MAP, "default", "one")
    server.store.create(CONFIG_MAP, "default", config_map("one"))
    seen = until_quiet(watch)
    assert [each["metadata"]["resourceVersion"] for each in seen[:5]] == versions
    assert described(seen[5:]) == [("one", True), ("one", False)]
    assert server.count("list") == 1, "streams that end in time are gone on with"


def test_an_empty_selection_says_so(api: KubeApi):
    watch = api.watch(CONFIG_MAP)
    assert next(watch) is None
    assert next(watch) is None


def test_a_name_or_labels_choose(api: KubeApi, server: KubeServer):
    for name in ("one", "two"):
        server.store.create(CONFIG_MAP, "default", config_map(name, {"app": "x"}))
    server.add_namespace("team-a")
    server.store.create(CONFIG_MAP, "team-a", config_map("three", {"app": "x"}))
    assert described(until_quiet(api.watch(CONFIG_MAP, name="two"))) == [("two", False)]
    assert described(until_quiet(api.watch(CONFIG_MAP, namespace="team-a"))) == [("three", False)]
    labelled = api.watch(CONFIG_MAP, labels={"app": "x"})
    assert described(until_quiet(labelled)) == [("one", False), ("two", False)]
    server.store.patch(CONFIG_MAP, "default", "one", {"metadata": {"labels": None}})
    assert described(until_quiet(labelled)) == [("one", True)]


@pytest.mark.parametrize("is_event", [True, False])
def test_a_version_that_has_expired_loses_no_deletion(server: KubeServer, watch: Watching, is_event: bool):
    server.is_expiry_an_event = is_event
    server.store.delete(CONFIG_MAP, "default", "one")
    server.store.create(CONFIG_MAP, "default", config_map("one"))
    server.store.create(CONFIG_MAP, "default", config_map("two"))
    server.store.forget()
    assert described(until_quiet(watch)) == [("one", True), ("one", False), ("two", False)]


def test_what_has_not_changed_is_not_said_again_after_a_new_list(server: KubeServer, watch: Watching):
    server.store.create(CONFIG_MAP, "default", config_map("two"))
    server.store.forget()
    assert described(until_quiet(watch)) == [("two", False)]


def test_bookmarks_keep_a_quiet_watch_from_expiring(server: KubeServer, watch: Watching):
    server.add_namespace("another-kind-changes")
    began = time.monotonic()
    while server.count("watch", f"resourceVersion={server.store.version}&") == 0:
        assert next(watch) is None
        assert time.monotonic() - began < 60
    server.store.forget()
    server.requests.clear()
    assert next(watch) is None
    assert server.count("list") == 0


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("trouble", ["cut", "cut line", "half-closed", "short", "reset"])
def test_a_stream_that_breaks_is_taken_up_again(server: KubeServer, watch: Watching, trouble: str, after: int):
    server.bookmark_s = 100
    server.fault(trouble, verb="watch", after=after)
    for number in range(4):
        server.store.patch(CONFIG_MAP, "default", "one", {"data": {"at": str(number)}})
    server.store.create(CONFIG_MAP, "default", config_map("two"))
    began = time.monotonic()
    seen: list[Object] = []
    while not seen or seen[-1]["metadata"]["name"] != "two":
        seen += until_quiet(watch)
        assert time.monotonic() - began < 60
    assert [each for each in seen if each["metadata"]["name"] == "one"][-1]["data"] == {"at": "3"}
    assert server.faults.waiting == []


def test_a_deletion_that_a_broken_stream_did_not_send_is_seen(server: KubeServer, watch: Watching):
    server.fault("half-closed", verb="watch")
    server.store.delete(CONFIG_MAP, "default", "one")
    seen: list[Object] = []
    while not seen:
        seen = until_quiet(watch)
    assert described(seen) == [("one", True)]


def test_a_stream_of_something_else_is_tried_again(server: KubeServer, watch: Watching):
    server.fault("page", 3, verb="watch", code=200, message="Welcome")
    server.store.create(CONFIG_MAP, "default", config_map("two"))
    assert ("two", False) in described(until_quiet(watch) + until_quiet(watch) + until_quiet(watch))


def test_a_server_away_in_mid_watch_is_waited_for(server: KubeServer, watch: Watching):
    restart = server.restart_after(0.5)
    server.store.create(CONFIG_MAP, "default", config_map("two"))
    assert described(until_quiet(watch)) == [("two", False)]
    restart.join()


def test_a_server_that_is_restored_empty_has_deleted_everything(server: KubeServer, watch: Watching):
    server.stop()
    server.lose()
    server.start()
    server.store.create(CONFIG_MAP, "default", config_map("one"))
    assert described(until_quiet(watch)) == [("one", True), ("one", False)]


def test_a_server_restored_without_raised_versions_is_found_out_in_time(
    server: KubeServer, patience: Patience, tmp_path: Path
):
    patient = replace(patience, relist_s=0.5)
    for number in range(50):
        server.store.create(CONFIG_MAP, "default", config_map(f"c{number:02d}"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
        watch = KubeApi.connect(patience=patient).watch(CONFIG_MAP)
    assert len(until_quiet(watch)) == 50
    server.stop()
    server.lose(are_versions_raised=False)
    server.start()
    seen: list[Object] = []
    began = time.monotonic()
    while not seen:
        seen = until_quiet(watch)
        assert time.monotonic() - began < 60
    assert described(seen) == [(f"c{number:02d}", True) for number in range(50)]


def test_a_server_that_stays_away_in_mid_watch_is_given_up(server: KubeServer, hasty: Patience, tmp_path: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
        watch = KubeApi.connect(patience=hasty).watch(CONFIG_MAP)
    assert next(watch) is None
    server.stop()
    began = time.monotonic()
    with pytest.raises(TargetUnreachableError, match="has not answered for"):
        list(watch)
    assert time.monotonic() - began < 60


def test_streams_that_always_break_do_not_end_a_watch_of_a_server_that_is_there(
    server: KubeServer, hasty: Patience, tmp_path: Path
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
        watch = KubeApi.connect(patience=hasty).watch(CONFIG_MAP)
    server.fault("cut", 10_000, verb="watch")
    ends = time.monotonic() + 4 * hasty.outage_s
    while time.monotonic() < ends:
        assert next(watch) is None
    server.store.create(CONFIG_MAP, "default", config_map("two"))
    assert described(until_quiet(watch)) == [("two", False)]
    assert server.count("watch") < 200, "breaking streams are not opened again without a pause"


def test_what_is_refused_in_mid_watch_ends_it(server: KubeServer, api: KubeApi):
    watch = api.watch(RAY_JOB)
    assert next(watch) is None
    server.deny("watch", "rayjobs")
    with pytest.raises(SubmissionError, match="watch RayJob in namespace default is not allowed"):
        list(watch)
    watch = api.watch(CONFIG_MAP)
    server.remove_group("ray.io")
    with pytest.raises(SubmissionError, match="KubeRay is not installed"):
        next(api.watch(RAY_JOB))


def test_a_watch_that_is_left_leaves_no_connection(server: KubeServer, watch: Watching):
    server.second_s = 100
    server.store.create(CONFIG_MAP, "default", config_map("two"))
    assert next(watch)
    watch.close()
    ends = time.monotonic() + 5
    while server.streams:
        assert time.monotonic() < ends
        time.sleep(0.01)


NAMES = st.sampled_from(["a", "b", "c"])
STEPS = st.one_of(
    st.tuples(st.just("put"), NAMES, st.integers(0, 3)),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("label"), NAMES, st.booleans()),
    st.tuples(st.just("look"), st.integers(1, 4)),
    st.tuples(st.just("forget"), st.booleans()),
    st.tuples(st.just("restart"), st.booleans()),
    st.tuples(
        st.just("fault"),
        st.sampled_from(["cut", "cut line", "half-closed", "reset", "short", "answer", "page", "lost"]),
        st.sampled_from(["watch", "watch", "list", "list"]),
        st.integers(0, 2),
    ),
)


@settings(max_examples=examples(0.4), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, max_size=25))
def test_no_object_is_lost_and_none_invented(server: KubeServer, api: KubeApi, steps: list[tuple]):
    server.faults.clear()
    for body in server.store.objects(CONFIG_MAP):
        server.store.delete(CONFIG_MAP, "default", body["metadata"]["name"])
    written: set[tuple[str, str]] = set()
    watch = api.watch(CONFIG_MAP, labels={"app": "x"})
    view: dict[str, Object] = {}

    def look(event: Object | None) -> None:
        if event is None:
            return
        metadata = event["metadata"]
        if "deletionTimestamp" in metadata:
            assert view.pop(metadata["uid"]), "deleted what was never there"
        else:
            assert (metadata["uid"], metadata["resourceVersion"]) in written
            view[metadata["uid"]] = event

    for step in steps:
        _take(server, step, written)
        if step[0] == "look":
            for _ in range(step[1]):
                look(next(watch))
    server.faults.clear()
    # One round may begin in a stream that is broken already.
    for _ in range(2):
        for event in until_quiet(watch):
            look(event)
    watch.close()
    there = [each for each in server.store.objects(CONFIG_MAP) if each["metadata"].get("labels")]
    assert sorted(view.values(), key=lambda each: each["metadata"]["name"]) == there


def _take(server: KubeServer, step: tuple, written: set[tuple[str, str]]) -> None:
    store = server.store
    there = {body["metadata"]["name"] for body in store.objects(CONFIG_MAP)}

    def wrote(body: Object) -> None:
        written.add((body["metadata"]["uid"], body["metadata"]["resourceVersion"]))

    match step:
        case ("put", name, value) if name in there:
            wrote(store.patch(CONFIG_MAP, "default", name, {"data": {"value": str(value)}}))
        case ("put", name, value):
            wrote(store.create(CONFIG_MAP, "default", config_map(name, {"app": "x"}, value=str(value))))
        case ("delete", name) if name in there:
            store.delete(CONFIG_MAP, "default", name)
        case ("label", name, is_on) if name in there:
            wrote(store.patch(CONFIG_MAP, "default", name, {"metadata": {"labels": {"app": "x"} if is_on else None}}))
        case ("forget", is_event):
            server.is_expiry_an_event = is_event
            store.forget()
        case ("restart", is_lost):
            server.stop()
            if is_lost:
                server.lose()
            server.start()
        case ("fault", trouble, verb, after):
            server.fault(trouble, verb=verb, after=after)
        case _:
            pass
