"""queue create and queue show, against a server that speaks the Kubernetes API."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.kube.client.kinds import (
    ADMISSION_POLICY_BINDING,
    CLUSTER_QUEUE,
    CLUSTER_ROLE,
    RAY_JOB,
    RESOURCE_FLAVOR,
    WORKLOAD,
)
from cluster.kube.manifests import load_job
from cluster.kube.queues.manifest import POD_POLICY, render_team
from ray_jobs.cli.app import main
from ray_jobs.job.team_toml import read_team
from tests.kube_server.server import KubeServer

TEAM = """
[team]
name = "{name}"

[[quota]]
flavor = "a100"
gpus = {gpus}
cpus = 64
memory_gib = 256
"""


@pytest.fixture
def server(kube_server_https: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KubeServer:
    flavor = {"apiVersion": RESOURCE_FLAVOR.api_version, "kind": "ResourceFlavor", "metadata": {"name": "a100"}}
    kube_server_https.store.create(RESOURCE_FLAVOR, "", {**flavor, "spec": {}})
    role = {"apiVersion": CLUSTER_ROLE.api_version, "kind": "ClusterRole", "rules": []}
    kube_server_https.store.create(CLUSTER_ROLE, "", {**role, "metadata": {"name": "resnet-dist-queue-viewer"}})
    binding = {"apiVersion": ADMISSION_POLICY_BINDING.api_version, "kind": ADMISSION_POLICY_BINDING.name, "spec": {}}
    kube_server_https.store.create(ADMISSION_POLICY_BINDING, "", {**binding, "metadata": {"name": POD_POLICY}})
    monkeypatch.setenv("KUBECONFIG", str(kube_server_https.kubeconfig(tmp_path)))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return kube_server_https


def file_of(folder: Path, name: str = "vision", gpus: int = 4) -> str:
    path = folder / f"{name}.toml"
    path.write_text(TEAM.format(name=name, gpus=gpus))
    return str(path)


def run(*arguments: str) -> int:
    return main(["queue", *arguments])


def use(server: KubeServer, name: str, total: int, borrowed: int, waiting: int = 0) -> None:
    used = [{"name": "a100", "resources": [{"name": "nvidia.com/gpu", "total": str(total), "borrowed": str(borrowed)}]}]
    status = {
        "flavorsReservation": used, "flavorsUsage": used, "admittedWorkloads": 1, "reservingWorkloads": 1,
        "pendingWorkloads": waiting,
    }  # fmt: skip
    server.store.patch(CLUSTER_QUEUE, "", name, {"status": status}, part="status")


def queued(server: KubeServer, name: str, priority: int, conditions: list[dict[str, Any]], gpus: int = 4) -> None:
    pods = {"containers": [{"name": "ray-worker", "resources": {"requests": {"nvidia.com/gpu": "4", "cpu": "16"}}}]}
    reference = {"group": "kueue.x-k8s.io", "kind": "WorkloadPriorityClass", "name": f"class{priority}"}
    _, job = load_job("train")
    job["metadata"] = {"name": name}
    uid = server.store.create(RAY_JOB, "vision", job)["metadata"]["uid"]
    body = {
        "apiVersion": WORKLOAD.api_version, "kind": "Workload",
        "metadata": {
            "name": f"rayjob-{name}", "namespace": "vision",
            "ownerReferences": [{"apiVersion": "ray.io/v1", "kind": "RayJob", "name": name, "uid": uid}],
        },
        "spec": {
            "queueName": "vision", "active": True, "priority": priority, "priorityClassRef": reference,
            "podSets": [{"name": "workers", "count": gpus // 4, "template": {"spec": pods}}],
        },
    }  # fmt: skip
    server.store.create(WORKLOAD, "vision", body)
    server.store.patch(WORKLOAD, "vision", f"rayjob-{name}", {"status": {"conditions": conditions}}, part="status")


def condition(kind: str, status: str, message: str = "") -> dict[str, Any]:
    since = {"reason": "Any", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    return {"type": kind, "status": status, "message": message, **since}


@pytest.fixture
def shared(server: KubeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> KubeServer:
    """Two teams: vision has borrowed 3 GPUs of inspection, and three of its jobs wait."""
    assert run("create", "vision", "--config", file_of(tmp_path)) == 0
    assert run("create", "inspection", "--config", file_of(tmp_path, "inspection", 8)) == 0
    use(server, "vision", 7, 3, waiting=3)
    use(server, "inspection", 1, 0)
    queued(server, "runs", 0, [condition("QuotaReserved", "True"), condition("Admitted", "True")], gpus=8)
    full = "couldn't assign flavors to pod set workers: insufficient unused quota for nvidia.com/gpu in flavor a100"
    queued(server, "patient", 0, [condition("QuotaReserved", "False", full)])
    queued(server, "urgent", 1000, [condition("QuotaReserved", "False", full)])
    queued(
        server, "stopped", 0, [condition("QuotaReserved", "False"), condition("Evicted", "True", "Preempted to [fit]")]
    )
    queued(server, "done", 0, [condition("Finished", "True")])
    capsys.readouterr()
    return server


@pytest.mark.usefixtures("server")
def test_create_says_what_it_did_and_the_second_time_that_there_was_nothing_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of(tmp_path)
    count = len(render_team(read_team(Path(path), "vision")).all)
    assert run("create", "vision", "--config", path) == 0
    said = capsys.readouterr().out
    assert "ClusterQueue vision: created" in said
    assert f"team vision in namespace vision: {count} created" in said
    assert "nobody is a member" in said
    assert run("create", "vision", "--config", path) == 0
    assert f"{count} unchanged" in capsys.readouterr().out
    file_of(tmp_path, gpus=5)
    assert run("create", "vision", "--config", path, "--dry-run=server") == 0
    assert "ClusterQueue vision: would be changed" in capsys.readouterr().out
    assert run("create", "vision", "--config", path) == 0
    said = capsys.readouterr().out
    assert "ClusterQueue vision: changed" in said
    assert "1 changed" in said
    assert f"{count - 1} unchanged" in said


def test_dry_run_and_output_need_no_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    path, output = file_of(tmp_path), tmp_path / "vision.yaml"
    expected = list(render_team(read_team(Path(path), "vision")).all)
    assert run("create", "vision", "--config", path, "--dry-run") == 0
    assert list(yaml.safe_load_all(capsys.readouterr().out)) == expected
    assert run("create", "vision", "--config", path, "--output", str(output)) == 0
    assert list(yaml.safe_load_all(output.read_text())) == expected
    assert f"-f {output}" in capsys.readouterr().out


def test_a_printed_team_can_be_created(server: KubeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cpu = {"apiVersion": RESOURCE_FLAVOR.api_version, "kind": "ResourceFlavor", "metadata": {"name": "cpu"}, "spec": {}}
    server.store.create(RESOURCE_FLAVOR, "", cpu)
    assert run("create", "line3", "--print-team") == 0
    path = tmp_path / "line3.toml"
    path.write_text(capsys.readouterr().out)
    assert run("create", "line3", "--config", str(path)) == 0
    assert "kubectl -n line3 create secret generic resnet-dist-storage" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "vision"], "--config is missing"),
        (["create", "Vision", "--print-team"], "team 'Vision': must be"),
        (["create", "vision", "--config", "absent.toml"], "absent.toml cannot be read"),
        (["create", "vision", "--confg", "x"], "did you mean --config?"),
        (["show", "absent", "--kube-context", "other"], "other"),
    ],
)
@pytest.mark.usefixtures("server")
def test_wrong_usage_is_one_readable_block(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert "Traceback" not in error


def test_no_permission_ends_with_2_and_names_verb_and_resource(
    server: KubeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.deny("create", "clusterqueues")
    assert run("create", "vision", "--config", file_of(tmp_path)) == 2
    assert "create clusterqueues.kueue.x-k8s.io" in capsys.readouterr().err
    server.deny("list", "clusterqueues")
    assert run("show", "vision") == 2
    error = capsys.readouterr().err
    assert "list" in error
    assert "clusterqueues.kueue.x-k8s.io" in error


@pytest.mark.usefixtures("shared")
def test_an_unknown_team_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "visoin") == 2
    assert "there is no queue 'visoin'; there are: inspection, vision" in capsys.readouterr().err


@pytest.mark.usefixtures("shared")
def test_show_tells_what_is_borrowed_lent_and_who_waits(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "vision", "--json") == 0
    view = json.loads(capsys.readouterr().out)
    (gpus,) = [each for each in view["shares"] if each["resource"] == "nvidia.com/gpu"]
    assert gpus == {
        "flavor": "a100", "resource": "nvidia.com/gpu", "quota": 4.0, "used": 7.0, "reserved": 7.0, "borrowed": 3.0,
        "lent_least": 0.0, "lent_most": 0.0, "most": 12.0,
    }  # fmt: skip
    assert (view["namespace"], view["cohort"], view["inactive"]) == ("vision", "resnet-dist", "")
    assert [each["name"] for each in view["others"]] == ["inspection"]
    jobs = [(each["name"], each["stage"], each["position"], each["gpus"]) for each in view["jobs"]]
    assert jobs[0] == ("runs", "running", None, 8.0)
    assert jobs[1] == ("urgent", "waiting", 0, 4.0)
    assert {each[0]: each[2] for each in jobs[2:]}.keys() == {"patient", "stopped"}
    assert "insufficient unused quota" in view["jobs"][1]["reason"]

    assert run("show", "inspection", "--json") == 0
    (gpus,) = [each for each in json.loads(capsys.readouterr().out)["shares"] if each["resource"] == "nvidia.com/gpu"]
    assert (gpus["lent_least"], gpus["lent_most"], gpus["borrowed"]) == (3.0, 3.0, 0.0)


@pytest.mark.usefixtures("shared")
def test_the_table_shows_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "vision") == 0
    lines = capsys.readouterr().out.splitlines()
    assert cells(lines, "a100 GPUs") == ["a100", "GPUs", "4", "7", "7", "3", "0", "12"]
    assert cells(lines, "inspection") == ["inspection", "resnet-dist", "8", "1", "0", "1", "0"]
    assert cells(lines, "urgent")[:5] == ["urgent", "waiting", "0", "class1000", "4"]
    assert any("Preempted to [fit]" in line for line in lines)
    assert not any(line.startswith("done") for line in lines)


def test_mig_devices_have_a_line_of_their_own(
    server: KubeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mig = "nvidia.com/mig-1g.10gb"
    path = Path(file_of(tmp_path))
    path.write_text(path.read_text() + f'devices = [{{ resource = "{mig}", count = 14, lend = 7 }}]\n')
    assert run("create", "vision", "--config", str(path)) == 0
    queued(server, "small", 0, [condition("QuotaReserved", "True"), condition("Admitted", "True")])
    usage = [{"name": "workers", "flavors": {mig: "a100"}, "resourceUsage": {mig: "2"}}]
    admission = {"admission": {"clusterQueue": "vision", "podSetAssignments": usage}}
    server.store.patch(WORKLOAD, "vision", "rayjob-small", {"status": admission}, part="status")
    capsys.readouterr()
    assert run("show", "vision") == 0
    lines = capsys.readouterr().out.splitlines()
    assert cells(lines, "a100 mig-1g.10gb") == ["a100", "mig-1g.10gb", "14", "0", "0", "0", "0", "14"]
    assert cells(lines, "small")[:6] == ["small", "running", "class0", "2", "mig-1g.10gb", "0"]
    assert run("show", "vision", "--json") == 0
    (job,) = json.loads(capsys.readouterr().out)["jobs"]
    assert (job["gpus"], job["devices"]) == (0.0, {mig: 2.0})


@pytest.mark.usefixtures("shared")
def test_without_a_team_all_queues_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show") == 0
    lines = capsys.readouterr().out.splitlines()
    assert cells(lines, "vision") == ["vision", "resnet-dist", "4", "7", "3", "1", "3"]
    assert run("show", "--json") == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == ["inspection", "vision"]


@pytest.mark.usefixtures("server")
def test_where_there_are_no_queues_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show") == 0
    assert "there are no queues" in capsys.readouterr().out


def test_a_queue_that_admits_nothing_says_why(shared: KubeServer, capsys: pytest.CaptureFixture[str]) -> None:
    shared.store.patch(CLUSTER_QUEUE, "", "vision", {"spec": {"stopPolicy": "HoldAndDrain"}})
    assert run("show", "vision") == 0
    assert "it admits no jobs: it is stopped (stopPolicy HoldAndDrain)" in capsys.readouterr().out
    assert run("show") == 0
    assert "admits no jobs" in capsys.readouterr().out


def test_members_of_other_teams_see_the_shares_and_not_the_jobs(
    shared: KubeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    shared.deny("list", "workloads", "vision")
    assert run("show", "vision") == 0
    said = capsys.readouterr().out
    assert cells(said.splitlines(), "a100 GPUs")[5] == "3"
    assert "its jobs are not shown: no permission to list workloads in namespace vision" in said
    assert "urgent" not in said


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_what_an_admin_applies_from_the_file_is_what_create_makes(
    server: KubeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = file_of(tmp_path), tmp_path / "vision.yaml"
    assert run("create", "vision", "--config", path, "--output", str(output)) == 0
    (command,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("apply it with: ")]
    done = subprocess.run(
        [*shlex.split(command.removeprefix("apply it with: ")), "--validate=false"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert run("create", "vision", "--config", path) == 0
    assert f"{len(render_team(read_team(Path(path), 'vision')).all)} unchanged" in capsys.readouterr().out
    file_of(tmp_path, gpus=5)
    assert run("create", "vision", "--config", path) == 0
    assert "ClusterQueue vision: changed" in capsys.readouterr().out
    assert server.count("delete") == 0


def cells(lines: list[str], start: str) -> list[str]:
    (found,) = [words for line in lines if (words := line.split())[: len(start.split())] == start.split()]
    return found
