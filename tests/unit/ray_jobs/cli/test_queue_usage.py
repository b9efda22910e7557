"""queue usage, against a server that speaks the Kubernetes API and runs that have recorded what they used."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cluster.jobs import HeldGpus
from cluster.kube.client.kinds import CLUSTER_QUEUE, LOCAL_QUEUE, RAY_JOB, WORKLOAD
from cluster.kube.manifests import load_job
from cluster.storage.store import Store
from ray_jobs.cli.app import main
from ray_jobs.submission.usage_record import UsageLog, held_gpus_of
from tests.kube_server.server import KubeServer

GPU, MIG = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
NOW = int(time.time())


@pytest.fixture
def server(kube_server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KubeServer:
    """Two teams of a cohort: vision owns 4 GPUs and 7 MIG devices, inspection 8 GPUs."""
    monkeypatch.setenv("KUBECONFIG", str(kube_server.kubeconfig(tmp_path)))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    queue(kube_server, "vision", {GPU: 4, MIG: 7})
    queue(kube_server, "inspection", {GPU: 8, MIG: 0})
    return kube_server


def ago(hours: float) -> str:
    return datetime.fromtimestamp(NOW - int(hours * 3600), UTC).isoformat().replace("+00:00", "Z")


def queue(server: KubeServer, name: str, quotas: dict[str, int]) -> None:
    server.add_namespace(name)
    flavor = {"name": "a100", "resources": [{"name": key, "nominalQuota": str(each)} for key, each in quotas.items()]}
    spec = {
        "cohortName": "pool", "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
        "resourceGroups": [{"coveredResources": list(quotas), "flavors": [flavor]}],
    }  # fmt: skip
    for kind, of in ((CLUSTER_QUEUE, spec), (LOCAL_QUEUE, {"clusterQueue": name})):
        body = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": name}, "spec": of}
        server.store.create(kind, name if kind.namespaced else "", body)


def condition(kind: str, status: str, hours: float) -> dict[str, Any]:
    return {"type": kind, "status": status, "lastTransitionTime": ago(hours), "reason": "Any", "message": ""}


def job(
    server: KubeServer,
    team: str,
    name: str,
    created: float,
    *conditions: dict[str, Any],
    devices: dict[str, int],
    **status: Any,
) -> None:
    """A job that came so many hours ago; it holds devices where one of its conditions says so."""
    _, body = load_job("train")
    body["metadata"] = {"name": name}
    uid = server.store.create(RAY_JOB, team, body)["metadata"]["uid"]
    owner = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": name, "uid": uid}
    server.store.create(WORKLOAD, team, {
        "apiVersion": WORKLOAD.api_version, "kind": "Workload",
        "metadata": {"name": f"rayjob-{name}", "ownerReferences": [owner]},
        "spec": {"queueName": team, "active": True, "priority": 0, "podSets": []},
    })  # fmt: skip
    usage = {key: str(each) for key, each in devices.items()}
    if any((each["type"], each["status"]) == ("QuotaReserved", "True") for each in conditions):
        assigned = {"name": "workers", "flavors": dict.fromkeys(usage, "a100"), "resourceUsage": usage}
        status["admission"] = {"clusterQueue": team, "podSetAssignments": [assigned]}
    else:
        status["resourceRequests"] = [{"name": "workers", "resources": usage}]
    patch = {"status": {"conditions": list(conditions), **status}}
    server.store.patch(WORKLOAD, team, f"rayjob-{name}", patch, part="status")
    server.store.backdate(WORKLOAD, team, f"rayjob-{name}", ago(created))


@pytest.fixture
def shared(server: KubeServer) -> KubeServer:
    """vision has borrowed 2 GPUs for 4 hours; a job of inspection waits; one on MIG devices was evicted."""
    reserved, finished = condition("QuotaReserved", "True", 9), condition("Finished", "True", 5)
    job(server, "vision", "welds", 10, reserved, finished, devices={GPU: 6})
    job(server, "inspection", "tiles", 3, condition("QuotaReserved", "False", 3), devices={GPU: 8})
    job(
        server, "vision", "night-search", 8, condition("QuotaReserved", "True", 4), condition("Finished", "True", 2),
        condition("Evicted", "False", 4), devices={MIG: 2}, accumulatedPastExecutionTimeSeconds=3600,
        schedulingStats={"evictions": [{"reason": "Preempted", "underlyingCause": "", "count": 2}]},
    )  # fmt: skip
    return server


def run(*arguments: str) -> int:
    return main(["queue", "usage", *arguments])


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("shared")
def test_hours_are_told_by_team_and_by_job(capsys: pytest.CaptureFixture[str]) -> None:
    usage = found(capsys, "--since", "30d")
    teams = {(each["team"], each["resource"]): each for each in usage["teams"]}
    assert teams.keys() == {("vision", GPU), ("vision", MIG), ("inspection", GPU)}
    vision, inspection, mig = teams["vision", GPU], teams["inspection", GPU], teams["vision", MIG]
    assert (vision["used_hours"], vision["borrowed_hours"], vision["lent_hours"], vision["waited_hours"]) == (
        24.0, 8.0, 0.0, 6.0,
    )  # fmt: skip
    assert (inspection["used_hours"], inspection["lent_hours"]) == (0.0, 8.0)
    assert inspection["waited_hours"] >= 24.0
    # 2 devices: 1 of the first 4 hours, and 2 hours after them.
    assert (mig["used_hours"], mig["unplaced_hours"], mig["borrowed_hours"], mig["waited_hours"]) == (
        6.0,
        2.0,
        0.0,
        6.0,
    )
    jobs = {each["job"]: each for each in usage["jobs"]}
    assert list(jobs) == ["welds", "night-search", "tiles"]
    assert jobs["welds"]["borrowed_hours"] == 8.0
    assert (jobs["night-search"]["evictions"], jobs["night-search"]["resource"]) == (2, MIG)
    assert usage["hidden"] == {}
    assert usage["records"] == {"root": None, "unreadable": 0}
    since, until = (datetime.fromisoformat(usage[key]) for key in ("since", "until"))
    assert (until - since).days == 30


@pytest.mark.usefixtures("shared")
def test_only_what_lies_in_the_period_counts(capsys: pytest.CaptureFixture[str]) -> None:
    usage = found(capsys, "--since", "6h")
    (vision,) = [each for each in usage["teams"] if (each["team"], each["resource"]) == ("vision", GPU)]
    since = datetime.fromisoformat(usage["since"]).timestamp()
    hours = (NOW - 5 * 3600 - since) / 3600
    assert vision["used_hours"] == pytest.approx(6 * hours)
    assert vision["borrowed_hours"] == pytest.approx(2 * hours)
    assert vision["waited_hours"] == 0.0


@pytest.mark.usefixtures("shared")
def test_teams_that_are_named_are_shown_and_the_others_still_count(capsys: pytest.CaptureFixture[str]) -> None:
    usage = found(capsys, "--team", "inspection")
    assert {each["team"] for each in usage["teams"]} == {each["team"] for each in usage["jobs"]} == {"inspection"}
    assert usage["teams"][0]["lent_hours"] == 8.0
    both = found(capsys, "--team", "inspection", "vision")
    assert {each["team"] for each in both["teams"]} == {"inspection", "vision"}


@pytest.mark.usefixtures("shared")
def test_the_tables_fit_a_terminal_and_say_what_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--since", "2w") == 0
    lines = capsys.readouterr().out.splitlines()
    tables = [line for line in lines if not line.startswith("note: ")]
    assert max(map(len, tables)) <= 80
    assert cells(lines, "vision GPUs") == ["vision", "GPUs", "24.0", "8.0", "0", "6.0"]
    assert cells(lines, "vision mig-1g.10gb") == ["vision", "mig-1g.10gb", "6.0", "0", "0", "6.0"]
    assert cells(lines, "welds") == ["welds", "vision", "GPUs", "24.0", "8.0", "6.0"]
    said = "\n".join(lines)
    assert (
        "note: night-search was evicted 2 times, and Kueue keeps only the latest times: of its hours 2.0 count" in said
    )
    assert "note: jobs that were deleted are not counted; --storage.root ROOT" in said


def test_members_see_their_own_team_and_what_is_lent_is_not_known(
    shared: KubeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    shared.deny("list", "workloads", "inspection")
    usage = found(capsys)
    assert usage["hidden"] == {"inspection": "no permission to list workloads in namespace inspection"}
    assert {each["team"] for each in usage["teams"]} == {"vision"}
    assert {each["lent_hours"] for each in usage["teams"]} == {None}
    assert run() == 0
    said = capsys.readouterr().out
    assert "note: jobs of inspection are not counted: no permission to list workloads in namespace inspection" in said
    assert "what is lent is not known (?)" in said
    assert cells(said.splitlines(), "vision GPUs")[4] == "?"


@pytest.mark.usefixtures("server")
def test_a_pool_that_nobody_used_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    said = capsys.readouterr().out
    assert cells(said.splitlines(), "inspection") == ["inspection", "GPUs", "0", "0", "0", "0"]
    assert "no jobs with GPUs" in said


def record(root: Path, name: str, begun: float, ended: float, devices: int = 2) -> None:
    """A run's record of a job on GPUs."""
    held = HeldGpus("vision", "vision", name, GPU, devices)
    assert held_gpus_of(held.to_json()) == held
    folder = root / "runs" / name
    UsageLog(Store.open(str(folder)), f"abc-{begun:g}", held, 1).write(has_ended=True)
    path = folder / "logs" / f"usage-abc-{begun:g}-1.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "began": ago(begun), "seen": ago(ended)}))


def test_deleted_jobs_count_by_the_records_of_their_runs(
    shared: KubeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "out"
    record(root, "gone", 20, 16)
    record(root, "large", 40, 30, devices=12)
    record(root, "welds", 8, 5)  # of the Workload that is there
    record(root, "welds", 90, 85)  # of an earlier one
    record(root, "old", 2000, 1900)
    (root / "runs" / "gone" / "logs" / "usage-x-1.json").write_text("{}")
    (root / "runs" / "gone" / "logs" / "driver-x.json").write_text("{}")
    usage = found(capsys, "--storage.root", str(root))
    jobs = {each["job"]: each for each in usage["jobs"]}
    assert jobs.keys() == {"welds", "tiles", "night-search", "gone", "large"}
    assert (jobs["gone"]["used_hours"], jobs["gone"]["waited_hours"], jobs["gone"]["is_recorded"]) == (8.0, 0.0, True)
    assert (jobs["large"]["used_hours"], jobs["large"]["borrowed_hours"]) == (120.0, 80.0)
    assert (jobs["welds"]["used_hours"], jobs["welds"]["is_recorded"]) == (34.0, True)
    assert jobs["night-search"]["is_recorded"] is False
    assert usage["records"] == {"root": str(root), "unreadable": 1}
    assert run("--storage.root", str(root)) == 0
    said = capsys.readouterr().out
    assert "note: of jobs that were deleted the time of their drivers counts" in said
    assert f"note: 1 records under {root} cannot be read" in said
    assert shared.count("list", "rayjobs") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "30"], "--since '30' must be a whole number from 1 to 9999 with h (hours), d (days) or w (weeks)"),
        (["--since", "0d"], "write 12h, 30d or 2w"),
        (["--since", "1m"], "--since '1m' must be"),
        (["--team", "visoin"], "--team visoin: there is no queue of that name; use one of: inspection, vision"),
        (["--storage.root", "absent"], "storage.root=absent has no runs/ and no searches/"),
        (["--sinse", "1d"], "did you mean --since?"),
    ],
)
@pytest.mark.usefixtures("server")
def test_wrong_usage_is_one_readable_block(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error


def cells(lines: list[str], start: str) -> list[str]:
    (found,) = [words for line in lines if (words := line.split())[: len(start.split())] == start.split()]
    return found
