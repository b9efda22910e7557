"""Jobs in a namespace: what is asked of the API server for their views, and how one job is followed to its end."""

import threading
from collections.abc import Callable

import pytest

from cluster.config import ClusterConfig
from cluster.errors import TargetUnreachableError
from cluster.jobs import JobRequest, JobView
from cluster.kube.client.api import KubeApi
from cluster.kube.client.kinds import POD, RAY_JOB
from cluster.kube.jobs import target as target_module
from cluster.kube.jobs.manifest import JobManifest, Placement, render_job
from cluster.kube.jobs.sizing import JobNeeds, pod_sizes
from cluster.kube.jobs.target import KubeTarget
from tests.kube_server.faults import Fault
from tests.kube_server.operators import NO_IMAGE, NO_QUOTA, Operators
from tests.kube_server.server import KubeServer

SIZES = pod_sizes(ClusterConfig(), JobNeeds(microbatch_size=8, height=64, width=64), use_gpu=False)


def request(name: str) -> JobRequest:
    run = f"s3://runs/{name}"
    return JobRequest(name, "train", (), "", None, identity=name, submission="first", run=run, module="a.program")


def rendered(request: JobRequest) -> JobManifest:
    return render_job(request, Placement("default", SIZES, use_gpu=False, queue="vision"))


@pytest.fixture
def target(api: KubeApi) -> KubeTarget:
    return KubeTarget(api, rendered)


@pytest.fixture
def operators(server: KubeServer) -> Operators:
    return Operators(server)


def play_every_state(target: KubeTarget, operators: Operators, copy: int) -> None:
    """A job that waits, one that is kept from starting, one that runs and one that has failed."""
    names = [f"{state}-{copy}" for state in ("waits", "hindered", "runs", "failed")]
    for name in names:
        target.submit(request(name))
        operators.queue(name, NO_QUOTA)
    for name in names[1:]:
        operators.admit(name)
        operators.start(name)
    operators.image_pull_failure(names[1], f"{NO_IMAGE} for {names[1]}")
    for name in names[2:]:
        operators.run(name)
    operators.event(operators.pods(names[2])[0], "FailedMount", f"no volume for {names[2]}")
    operators.fail(names[3])
    operators.oom_kill(names[3])


def test_a_list_takes_as_many_requests_for_eight_jobs_as_for_four_and_shows_each_as_it_is_alone(
    target: KubeTarget, operators: Operators, server: KubeServer
):
    for copy in range(2):
        play_every_state(target, operators, copy)
        server.requests.clear()
        views = {view.name: view for view in target.list()}
        assert len(views) == 4 * (copy + 1)
        kinds = sorted(path.partition("?")[0].rpartition("/")[2] for _, path in server.requests)
        assert kinds == ["events", "pods", "rayjobs", "workloads"], "once each"
    for name, view in views.items():
        assert view == target.view(name)
        state, _, copy = name.partition("-")
        assert view.state == {"waits": "queued", "hindered": "admitted", "runs": "running", "failed": "failed"}[state]
        said = {"failed": "out of memory", "waits": "4 GPUs more of h100 are needed"}
        assert said.get(state, f"for {name}") in view.reason
        assert view.position == (int(copy) if state == "waits" else None)


def test_jobs_that_are_done_need_no_further_request(target: KubeTarget, operators: Operators, server: KubeServer):
    target.submit(request("night"))
    operators.start("night")
    operators.run("night")
    operators.succeed("night")
    server.requests.clear()
    assert [view.state for view in target.list()] == ["done"]
    assert len(server.requests) == 1


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are looked at often."""
    monkeypatch.setattr(target_module, "_POLL_S", 0.02)
    monkeypatch.setattr(target_module, "_SAME_S", 0.3)


def followed(target: KubeTarget, name: str, then: Callable[[], object]) -> list[JobView]:
    """A job's views, where something happens after the first."""
    views = target.follow(name)
    first = next(views)
    player = threading.Thread(target=then)
    player.start()
    rest = list(views)
    player.join()
    return [first, *rest]


@pytest.mark.usefixtures("quick")
def test_a_job_is_followed_to_its_end(target: KubeTarget, operators: Operators):
    target.submit(request("night"))

    def play() -> None:
        operators.start("night")
        operators.run("night")
        operators.succeed("night")

    states = [view.state for view in followed(target, "night", play)]
    assert (states[0], states[-1]) == ("admitted", "done")
    assert list(target.follow("night")) == [target.view("night")]


@pytest.mark.usefixtures("quick")
def test_what_happens_to_pods_alone_is_seen(target: KubeTarget, operators: Operators, server: KubeServer):
    target.submit(request("night"))
    operators.start("night")
    views = target.follow("night")
    assert "pulled" not in next(views).reason
    version = server.store.get(RAY_JOB, "default", "night")["metadata"]["resourceVersion"]
    operators.image_pull_failure("night")
    assert any("pulled" in next(views).reason for _ in range(100))
    assert server.store.get(RAY_JOB, "default", "night")["metadata"]["resourceVersion"] == version


@pytest.mark.usefixtures("quick")
def test_a_job_that_is_deleted_has_stopped_whoever_has_its_name_now(
    target: KubeTarget, operators: Operators, server: KubeServer
):
    target.submit(request("night"))
    operators.start("night")
    assert server.store.objects(POD)

    def replace() -> None:
        with server.store.changed:
            server.store.delete(RAY_JOB, "default", "night", {"propagationPolicy": "Foreground"})
            server.store.create(RAY_JOB, "default", rendered(request("night")).ray_job)

    for then in (replace, lambda: server.store.delete(RAY_JOB, "default", "night")):
        assert followed(target, "night", then)[-1].state == "stopped"


@pytest.mark.usefixtures("quick")
def test_a_job_is_followed_through_a_restart_of_the_server(
    target: KubeTarget, operators: Operators, server: KubeServer
):
    target.submit(request("night"))

    def play() -> None:
        operators.start("night")
        operators.run("night")
        server.stop()
        operators.succeed("night")  # while nobody could see it
        server.start()

    assert followed(target, "night", play)[-1].state == "done"


@pytest.mark.usefixtures("quick")
def test_a_server_that_stays_away_ends_the_following(target: KubeTarget, server: KubeServer):
    target.submit(request("night"))
    views = target.follow("night")
    assert next(views).state == "admitted"
    server.faults.add(Fault("answer", code=503, retry_after=3600))
    with pytest.raises(TargetUnreachableError):
        list(views)
