"""`submit` and `jobs` against a server that speaks the Kubernetes API, with KubeRay and Kueue played state by state."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cluster.kube.client.kinds import (
    CONFIG_MAP,
    LOCAL_QUEUE,
    RAY_JOB,
)
from tests.kube_server.operators import Operators
from tests.kube_server.server import KubeServer
from tests.kube_server.store import WriteOptions
from tests.kube_server.team_queue import add_queue, put

JOB = ("--data.root", "/storage/tiles", "--storage.root", "/storage/outputs", "--name", "tiles")
Run = Callable[..., tuple[int, str, str]]


def test_a_job_is_submitted_once(server: KubeServer, run: Run) -> None:
    code, out, err = run("submit", "train", *JOB, "--cluster.num-workers", "2")
    assert code == 0, err
    assert "job tiles submitted: namespace default, without a queue" in out
    assert "2 pods of 1 worker: 1 GPU, 4 CPUs" in out
    assert "resnet-dist jobs wait tiles" in out
    job = server.store.get(RAY_JOB, "default", "tiles")
    config = server.store.get(CONFIG_MAP, "default", "tiles")
    assert config["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    assert 'root = "/storage/tiles"' in config["data"]["job.toml"]

    code, out, _ = run("submit", "train", *JOB, "--cluster.num-workers", "2")
    assert code == 0
    assert "job tiles is there already (admitted)" in out
    assert server.store.get(RAY_JOB, "default", "tiles")["metadata"]["uid"] == job["metadata"]["uid"]


def test_where_it_runs_does_not_make_another_job(server: KubeServer, run: Run) -> None:
    assert run("submit", "train", *JOB)[0] == 0
    assert run("submit", "train", *JOB, "--cluster.num-workers", "4")[0] == 0
    assert len(server.store.objects(RAY_JOB, "default")) == 1


@pytest.mark.usefixtures("server")
def test_another_job_under_the_name_is_refused_with_the_difference(run: Run) -> None:
    assert run("submit", "train", *JOB)[0] == 0
    code, _, err = run("submit", "train", *JOB, "--optimizer.learning-rate", "0.123")
    assert code == 2
    assert "job tiles in namespace default is another one" in err
    assert "optimizer.learning_rate: 0.05 -> 0.123" in err.replace("0.01 ->", "0.05 ->")
    assert "--name" in err


def test_a_mended_job_takes_the_name_of_one_that_was_refused(server: KubeServer, run: Run) -> None:
    operators = Operators(server)
    run("submit", "train", *JOB)
    operators.start("tiles")
    operators.run("tiles")
    operators.fail("tiles", 2)
    code, out, err = run("submit", "train", *JOB, "--optimizer.learning-rate", "0.123")
    assert code == 0, err
    assert "job tiles submitted" in out
    assert "learning_rate = 0.123" in server.store.get(CONFIG_MAP, "default", "tiles")["data"]["job.toml"]


def test_a_failed_job_starts_again_and_a_done_one_for_more_epochs(server: KubeServer, run: Run) -> None:
    operators = Operators(server)
    run("submit", "train", *JOB)
    operators.start("tiles")
    operators.run("tiles")
    operators.fail("tiles", 1)
    first = server.store.get(RAY_JOB, "default", "tiles")
    code, out, _ = run("submit", "train", *JOB)
    assert code == 0
    assert "job tiles submitted" in out
    second = server.store.get(RAY_JOB, "default", "tiles")
    notes = "annotations"
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert second["metadata"][notes]["resnet-dist/submission"] != first["metadata"][notes]["resnet-dist/submission"]
    config = server.store.get(CONFIG_MAP, "default", "tiles")
    assert config["metadata"]["ownerReferences"][0]["uid"] == second["metadata"]["uid"]

    operators.start("tiles")
    operators.run("tiles")
    operators.succeed("tiles")
    assert "is there already (done)" in run("submit", "train", *JOB)[1]
    assert "job tiles submitted" in run("submit", "train", *JOB, "--training.epochs", "99")[1]


def test_every_state_is_shown_with_its_reason(server: KubeServer, run: Run) -> None:
    add_queue(server)
    operators = Operators(server, "vision")
    submitted = run("submit", "train", *JOB, "--team", "vision", "--priority", "research")
    assert submitted[0] == 0, submitted

    def state() -> tuple[str, str, str]:
        view = json.loads(run("jobs", "status", "tiles", "--namespace", "vision", "--json")[1])
        return view["state"], view["reason"], str(view["position"])

    operators.queue("tiles")
    assert state() == ("queued", "queue vision: 4 GPUs more of h100 are needed", "0")
    operators.admit("tiles")
    operators.start("tiles")
    assert state()[0] == "admitted"
    operators.image_pull_failure("tiles")
    assert state()[:1] == ("admitted",)
    assert "cannot be pulled" in state()[1]
    operators.unschedulable("tiles")
    operators.run("tiles")
    assert state()[0] == "running"
    operators.evict("tiles")
    assert state()[:2] == ("queued", "queue vision: Preempted to accommodate a workload")
    operators.admit("tiles")
    operators.start("tiles")
    operators.run("tiles")
    operators.retry("tiles", 1)
    assert state()[0] == "retrying"
    operators.start("tiles")
    operators.run("tiles")
    operators.fail("tiles", 2, message="failed with exit code 2, last logs:\nerror: data.root=/storage/tiles: empty")
    assert state()[:2] == ("failed", "wrong configuration: data.root=/storage/tiles: empty")
    table = run("jobs", "list", "--namespace", "vision")[1]
    assert "tiles" in table
    assert "failed" in table


@pytest.mark.parametrize(("ends_with", "code"), [(0, 0), (2, 2), (3, 3), (4, 4), (1, 1), (137, 137)])
def test_wait_ends_with_the_jobs_own_exit_code(server: KubeServer, run: Run, ends_with: int, code: int) -> None:
    operators = Operators(server)
    run("submit", "train", *JOB)

    def play() -> None:
        operators.start("tiles")
        operators.run("tiles")
        if ends_with:
            operators.fail("tiles", ends_with)
        else:
            operators.succeed("tiles")

    player = threading.Timer(0.2, play)
    player.start()
    found, out, _ = run("jobs", "wait", "tiles")
    player.join()
    assert found == code, out
    assert out.splitlines()[-1].startswith(f"tiles: {'failed' if ends_with else 'done'}")


def test_wait_goes_on_through_restarts_of_the_server(server: KubeServer, run: Run) -> None:
    operators = Operators(server)
    run("submit", "train", *JOB)

    def play() -> None:
        operators.start("tiles")
        server.restart_after(0.5).join()
        operators.run("tiles")
        server.stop()
        operators.succeed("tiles")  # while nobody could see it
        server.start()

    player = threading.Timer(0.2, play)
    player.start()
    code, out, err = run("jobs", "wait", "tiles")
    player.join()
    assert code == 0, (out, err)
    assert out.splitlines()[-1] == "tiles: done"


@pytest.fixture
def begun(server: KubeServer, run: Run, monkeypatch: pytest.MonkeyPatch) -> Operators:
    """A job whose pods are made, and that is looked at often."""
    monkeypatch.setattr("cluster.kube.jobs.target._SAME_S", 0.1)
    operators = Operators(server)
    run("submit", "train", *JOB)
    operators.start("tiles")
    return operators


def test_wait_gives_up_on_an_image_that_cannot_be_pulled(server: KubeServer, run: Run, begun: Operators) -> None:
    begun.image_pull_failure("tiles")
    code, out, _ = run("jobs", "wait", "tiles", "--hindered-s", "0.1")
    assert code == 1
    assert "cannot be pulled" in out
    assert "given up after 0.1 s; the job is left as it is" in out
    assert server.store.get(RAY_JOB, "default", "tiles")


def test_wait_does_not_give_up_on_nodes_that_are_busy(run: Run, begun: Operators) -> None:
    begun.unschedulable("tiles")

    def play() -> None:
        begun.run("tiles")
        begun.succeed("tiles")

    player = threading.Timer(1.5, play)
    player.start()
    code, out, _ = run("jobs", "wait", "tiles", "--hindered-s", "0.1")
    player.join()
    assert code == 0, out
    assert "cannot be scheduled: 0/3 nodes are available" in out
    assert "given up" not in out


def test_logs_are_followed_through_a_retry(server: KubeServer, run: Run) -> None:
    operators = Operators(server)
    run("submit", "train", *JOB)
    operators.start("tiles")
    operators.run("tiles")
    operators.say("tiles", "epoch 1", "epoch 2")
    assert run("jobs", "logs", "tiles")[1].splitlines() == ["epoch 1", "epoch 2"]

    def play() -> None:
        deadline = time.monotonic() + 60
        while not server.count("get", "follow=true") and time.monotonic() < deadline:
            time.sleep(0.01)
        operators.say("tiles", "epoch 3")
        operators.retry("tiles", 137)
        operators.start("tiles")
        operators.run("tiles")
        operators.say("tiles", "resumed")
        operators.succeed("tiles")

    player = threading.Thread(target=play)
    player.start()
    code, out, _ = run("jobs", "logs", "tiles", "--follow")
    player.join()
    assert code == 0
    assert out.splitlines() == ["epoch 1", "epoch 2", "epoch 3", "resumed"]


def test_a_stopped_job_is_gone_and_can_be_submitted_again(server: KubeServer, run: Run) -> None:
    run("submit", "train", *JOB)
    code, out, _ = run("jobs", "stop", "tiles")
    assert code == 0
    assert "job tiles: stopped" in out
    assert server.store.objects(RAY_JOB, "default") == []
    code, _, err = run("jobs", "status", "tiles")
    assert code == 2
    assert "no job 'tiles' in namespace default" in err
    assert "submitted" in run("submit", "train", *JOB)[1]


def test_what_an_earlier_job_has_left_is_not_taken_for_the_new_ones(server: KubeServer, run: Run) -> None:
    assert run("submit", "train", *JOB)[0] == 0
    left = server.store.get(CONFIG_MAP, "default", "tiles")
    assert (
        run("submit", "train", *("earlier" if word == "tiles" else word for word in JOB))[0] == 0
    )  # an owner that is not collected yet
    earlier = server.store.get(RAY_JOB, "default", "earlier")
    left["metadata"]["ownerReferences"][0] |= {"name": "earlier", "uid": earlier["metadata"]["uid"]}
    server.store.replace(CONFIG_MAP, "default", "tiles", left, WriteOptions())
    assert run("submit", "train", *JOB)[0] == 0
    job, config = (server.store.get(kind, "default", "tiles") for kind in (RAY_JOB, CONFIG_MAP))
    assert config["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]


def test_work_on_a_run_is_a_job_of_its_own(server: KubeServer, run: Run) -> None:
    assert run("submit", "export", "tiles", *JOB[2:4], "--formats", "onnx")[0] == 0
    assert run("submit", "evaluate", "tiles", *JOB[2:4], "--split", "val")[0] == 0
    assert run("submit", "evaluate", "tiles", *JOB[2:4])[0] == 0
    names = sorted(job["metadata"]["name"] for job in server.store.objects(RAY_JOB, "default"))
    assert "tiles-evaluate" in names
    assert len(names) == 3
    export = next(job for job in server.store.objects(RAY_JOB, "default") if "export" in job["metadata"]["name"])
    assert "export tiles --formats onnx --config /etc/resnet-dist/job.toml" in export["spec"]["entrypoint"]
    assert export["spec"]["rayClusterSpec"]["workerGroupSpecs"] == []


def test_an_export_follows_in_the_same_job(server: KubeServer, run: Run) -> None:
    code, out, err = run("submit", "train", *JOB, "--then", "export", "--formats", "onnx")
    assert code == 0, err
    assert "then, in the same job: export /storage/outputs/runs/tiles --formats onnx" in out
    assert "head 4 CPUs, 12 GiB" in out
    (job,) = server.store.objects(RAY_JOB, "default")
    assert "--then export /storage/outputs/runs/tiles --formats onnx --config" in job["spec"]["entrypoint"]
    assert len(job["spec"]["rayClusterSpec"]["workerGroupSpecs"]) == 1
    assert "is there already" in run("submit", "train", *JOB)[1]
    assert run("submit", "train", *JOB, "--then", "export", "--formats", "onnx")[0] == 0


@pytest.mark.usefixtures("server")
def test_an_export_is_not_promised_by_a_job_that_only_trains(run: Run) -> None:
    assert run("submit", "train", *JOB)[0] == 0
    code, _, err = run("submit", "train", *JOB, "--then", "export")
    assert code == 2
    assert "it may end without export" in err
    assert "resnet-dist jobs stop tiles" in err


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (("train", "--formats", "onnx"), "--formats"),
        (("tune", "--then", "export"), "--then"),
        (("export", "tiles", "--then", "export"), "--then"),
        (("train", "--then", "export", "--split", "val"), "--split"),
    ],
)
def test_a_flag_of_another_verb_is_refused(run: Run, words: tuple[str, ...], flag: str) -> None:
    code, _, err = run("submit", *words, *JOB)
    assert code == 2
    assert f"{flag} does not apply to {words[0]}; remove it" in err


def test_dry_runs_print_the_objects_and_create_none(server: KubeServer, run: Run) -> None:
    code, out, _ = run("submit", "train", *JOB, "--team", "vision", "--dry-run")
    assert code == 0
    kinds = [each["kind"] for each in yaml.safe_load_all(out)]
    assert kinds == ["ConfigMap", "RayJob"]
    assert server.requests == []  # no cluster is asked
    code, out, _ = run("submit", "train", *JOB, "--namespace", "vision", "--dry-run=server")
    assert code == 0
    assert list(yaml.safe_load_all(out))[1]["metadata"]["namespace"] == "vision"
    assert server.store.objects(RAY_JOB, "vision") == []
    assert server.count("create", "dryRun=All") + server.count("POST", "dryRun=All") == 2


def test_a_dry_run_of_a_job_that_is_there_creates_nothing_and_is_right(server: KubeServer, run: Run) -> None:
    assert run("submit", "train", *JOB)[0] == 0
    before = server.store.get(RAY_JOB, "default", "tiles")
    assert run("submit", "train", *JOB, "--dry-run=server")[0] == 0
    assert run("submit", "train", *JOB, "--optimizer.learning-rate", "0.123", "--dry-run=server")[0] == 2
    assert server.store.get(RAY_JOB, "default", "tiles") == before


def test_a_teams_own_secret_and_claim_are_its_jobs(server: KubeServer, run: Run) -> None:
    add_queue(server)
    body = server.store.get(LOCAL_QUEUE, "vision", "vision")
    body["metadata"]["annotations"] = {
        "resnet-dist/storage-secret": "vision-keys",
        "resnet-dist/storage-claim": "vision-disk",
    }
    server.store.replace(LOCAL_QUEUE, "vision", "vision", body)
    assert run("submit", "train", *JOB, "--team", "vision")[0] == 0
    spec = server.store.get(RAY_JOB, "vision", "tiles")["spec"]["rayClusterSpec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "vision-keys", "optional": True}}]
        claims = [each["persistentVolumeClaim"] for each in pod["volumes"] if "persistentVolumeClaim" in each]
        assert claims == [{"claimName": "vision-disk"}]


def test_a_job_that_is_being_deleted_makes_room_for_another(server: KubeServer, run: Run) -> None:
    run("submit", "train", *JOB)
    body = server.store.get(RAY_JOB, "default", "tiles")
    body["metadata"]["finalizers"] = ["ray.io/rayjob-finalizer"]
    server.store.replace(RAY_JOB, "default", "tiles", body)
    assert run("jobs", "stop", "tiles")[0] == 0

    def let_go() -> None:
        body = server.store.get(RAY_JOB, "default", "tiles")
        body["metadata"]["finalizers"] = []
        server.store.replace(RAY_JOB, "default", "tiles", body)

    player = threading.Timer(0.5, let_go)
    player.start()
    code, out, err = run("submit", "train", *JOB, "--optimizer.learning-rate", "0.123")
    player.join()
    assert code == 0, err
    assert "job tiles submitted" in out


def test_a_secret_in_an_address_is_refused_and_not_repeated(server: KubeServer, run: Run) -> None:
    code, out, err = run("submit", "train", "--data.root", "s3://me:hunter2@bucket/x", *JOB[2:])
    assert code == 2
    assert "hunter2" not in out + err
    assert server.requests == []


def test_work_on_a_run_in_the_claim_mounts_it(server: KubeServer, run: Run) -> None:
    where = ("--storage.root", "s3://bucket/out")
    assert run("submit", "export", "/storage/outputs/runs/tiles", *where)[0] == 0
    (job,) = server.store.objects(RAY_JOB, "default")
    assert "persistentVolumeClaim" in str(job["spec"]["rayClusterSpec"]["headGroupSpec"])


def test_a_config_map_of_somebody_else_is_left_alone(server: KubeServer, run: Run) -> None:
    put(server, CONFIG_MAP, "tiles", {"data": {"theirs": "yes"}})
    code, _, err = run("submit", "train", *JOB, "--namespace", "vision")
    assert code == 2
    assert "ConfigMap tiles that is not one of resnet-dist's" in err
    assert server.store.objects(RAY_JOB, "vision") == []
    assert server.store.get(CONFIG_MAP, "vision", "tiles")["data"] == {"theirs": "yes"}


def refused(run: Run, *words: str) -> str:
    code, out, err = run(*words)
    assert code == 2, (out, err)
    return err


def test_without_a_kubeconfig_it_says_where_it_looked(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    err = refused(run, "submit", "train", *JOB)
    assert str(tmp_path / "none") in err
    assert "--cluster.address" in err


def test_without_permission_verb_and_resource_are_named(server: KubeServer, run: Run) -> None:
    server.deny("create", "rayjobs")
    err = refused(run, "submit", "train", *JOB)
    assert "create" in err
    assert "rayjobs" in err
    assert "default" in err


@pytest.mark.usefixtures("server")
def test_a_namespace_that_is_not_there(run: Run) -> None:
    assert "there is no namespace sight" in refused(run, "submit", "train", *JOB, "--namespace", "sight")


def test_a_queue_that_is_not_there(server: KubeServer, run: Run) -> None:
    add_queue(server)
    err = refused(run, "submit", "train", *JOB, "--namespace", "vision", "--queue", "sight")
    assert "sight" in err
    assert "vision" in err  # the one there is


def test_a_priority_that_is_not_there(server: KubeServer, run: Run) -> None:
    add_queue(server)
    err = refused(run, "submit", "train", *JOB, "--team", "vision", "--priority", "urgent")
    assert "'urgent'" in err
    assert "research" in err


def test_more_gpus_than_the_queue_can_ever_give(server: KubeServer, run: Run) -> None:
    add_queue(server, gpus=4)
    err = refused(run, "submit", "train", *JOB, "--team", "vision", "--cluster.num-workers", "8")
    assert "8 GPUs" in err
    assert "4" in err
    assert server.store.objects(RAY_JOB, "vision") == []


@pytest.mark.parametrize("group", ["ray.io", "kueue.x-k8s.io"])
def test_an_operator_that_is_not_installed(server: KubeServer, run: Run, group: str) -> None:
    add_queue(server)
    server.remove_group(group)
    err = refused(run, "submit", "train", *JOB, "--team", "vision")
    assert ("KubeRay" if group == "ray.io" else "Kueue") in err
    assert server.count("POST", "rayjobs") == 0


def test_an_operator_of_another_version(server: KubeServer, run: Run) -> None:
    server.serve_other_version("ray.io", "v1alpha1")
    err = refused(run, "submit", "train", *JOB)
    assert "v1alpha1" in err
    assert "KubeRay" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--team", "Vision Team"), "--team 'Vision Team' must be 1 to 63 small letters"),
        (("--queue", "a_b"), "--queue 'a_b' must be"),
        (("--image", "resnet-dist:latest"), "may be another image tomorrow"),
        (("--priority", "research"), "orders jobs of a queue; name it with --team or --queue"),
        (("--cluster.num-workers", "3", "--cluster.workers-per-node", "2"), "is no multiple of"),
        (("--data.root", "tiles"), "data.root=tiles is a folder of this machine"),
        (("--storage.root", "outputs"), "storage.root=outputs is a folder of this machine"),
        (("--split", "val"), "--split does not apply to train; remove it"),
        (("--data.labels", "/home/me/labels.csv"), "data.labels=/home/me/labels.csv is a folder of this machine"),
        (("--working-tree", "."), "--working-tree is for a running Ray"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_asked(
    server: KubeServer, run: Run, words: tuple[str, ...], said: str
) -> None:
    given = [word for word in zip(JOB[::2], JOB[1::2], strict=True) if word[0] not in words]
    assert said in refused(run, "submit", "train", *(each for pair in given for each in pair), *words)
    assert server.requests == []


def test_a_rayjob_of_somebody_else_is_left_alone(server: KubeServer, run: Run) -> None:
    run("submit", "train", *JOB)
    body = server.store.get(RAY_JOB, "default", "tiles")
    body["metadata"]["labels"] = {}
    server.store.replace(RAY_JOB, "default", "tiles", body, WriteOptions())
    assert "not one of resnet-dist's" in refused(run, "submit", "train", *JOB)
    assert "not one of resnet-dist's" in refused(run, "jobs", "stop", "tiles")


def test_a_secret_that_is_not_there_is_the_reason(server: KubeServer, run: Run) -> None:
    operators = Operators(server)
    run("submit", "train", *JOB)
    pods = operators.start("tiles")
    state = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "resnet-dist-storage" not found'}}
    operators.set_container(pods[0], "Pending", state)
    out = run("jobs", "status", "tiles")[1]
    assert 'cannot start: secret "resnet-dist-storage" not found' in out
