"""A job as the manifest has it: a head without CPUs and a worker that train under the pods' own security context, with
its root, user, capabilities, volumes, environment and Ray parameters, in namespaces of Linux instead of containers."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.kube.manifests import load_job
from tests.pod_sandbox import ROOT, Pod, can_make_namespaces, run_pod

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_make_namespaces(), reason="needs root, and namespaces that it may make"),
]

JOB = """
name = "example"
[data]
root = "/storage/digits"
image_size = 32
[model]
arch = "resnet18"
weights = "none"
[training]
epochs = 1
global_batch_size = 64
microbatch_size = 32
[storage]
root = "/storage/outputs"
[cluster]
address = "auto"
num_workers = 2
use_gpu = false
"""
INSIDE = """
set -u
grep -E "^(Cap(Eff|Bnd)|NoNewPrivs|Uid):" /proc/self/status
for each in /etc/a /usr/a /opt/a /a; do ( : > $each ) 2>/dev/null && echo "WRITABLE $each"; done
{head} > /tmp/head.log 2>&1 &
for _ in $(seq 60); do ray health-check --address 127.0.0.1:6379 > /dev/null 2>&1 && break; sleep 1; done
{worker} > /tmp/worker.log 2>&1 &
python - <<'END'
import json, time, urllib.request
for port in (52365, 52366):
    for _ in range(60):
        try:
            answer = urllib.request.urlopen(f"http://127.0.0.1:{{port}}/api/healthz", timeout=5).read().decode()
            print(port, json.dumps(answer))
            break
        except OSError:
            time.sleep(1)
END
RAY_AUTH_TOKEN=another ray job list --address http://127.0.0.1:8265 > /tmp/refused.log 2>&1; echo "other token: $?"
python -m ray_jobs data sample digits /storage/digits
ray job submit --address http://127.0.0.1:8265 --no-wait --submission-id example -- {entrypoint} > /dev/null 2>&1
ray job logs --address http://127.0.0.1:8265 --follow example
tail -n 20 /tmp/head.log /tmp/worker.log
python - <<'END'
import re, urllib.request
found = set()
for port in (8080, 8081):
    text = urllib.request.urlopen(f"http://127.0.0.1:{{port}}/metrics", timeout=10).read().decode()
    found |= set(re.findall(r"^(ray_\\w+?)[{{ ]", text, re.MULTILINE))
print("METRICS", *sorted(found))
END
find /storage/outputs/runs/example/logs -name 'driver-*'
echo "STATUS $(cat /storage/outputs/runs/example/status.json | tr -d '\\n')"
"""


def start(group: dict[str, Any], **other: str) -> str:
    """The command that KubeRay makes of a group's parameters."""
    params = (
        group["rayStartParams"] | {"block": "true"} | {key.replace("_", "-"): value for key, value in other.items()}
    )
    flags = [f"--{key}" if value == "true" else f"--{key}={value}" for key, value in sorted(params.items())]
    return shlex.join(["ray", "start", *flags])


def test_a_job_trains_under_the_manifests_own_security_context(tmp_path: Path):
    (job,) = [each for each in load_job("train") if each["kind"] == "RayJob"]
    cluster = job["spec"]["rayClusterSpec"]
    head, workers = cluster["headGroupSpec"], cluster["workerGroupSpecs"][0]
    spec = head["template"]["spec"]
    written = {each["name"]: each["value"] for each in spec["containers"][0]["env"] if "value" in each}
    # What the image sets (k8s/image/Dockerfile), what KubeRay adds, and what the manifest says.
    environment = {
        "PATH": f"{Path(sys.prefix).resolve()}/bin:/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1", "XDG_CACHE_HOME": "/var/cache/resnet-dist",
        "PYTHONPATH": str(ROOT), "RAY_ADDRESS": "127.0.0.1:6379",
        "RAY_AUTH_MODE": cluster["authOptions"]["mode"], "RAY_AUTH_TOKEN": "0123456789abcdef" * 2,
    } | written | {"RESNET_DIST_RUN": "/storage/outputs/runs/example"}  # fmt: skip
    first = start(
        head, head="true", dashboard_host="0.0.0.0", dashboard_agent_listen_port="52365", metrics_export_port="8080"
    )
    second = start(
        workers, address="127.0.0.1:6379", num_cpus="2", dashboard_agent_listen_port="52366", metrics_export_port="8081"
    )
    inside = INSIDE.format(head=first, worker=second, entrypoint=job["spec"]["entrypoint"])
    done = run_pod(tmp_path, Pod(spec, environment, JOB, inside), timeout_s=280)
    said = done.stdout
    assert "STATUS " in said, said + done.stderr
    assert "CapEff:\t0000000000000000" in said
    assert "CapBnd:\t0000000000000000" in said
    assert "NoNewPrivs:\t1" in said
    assert "Uid:\t1000\t1000" in said
    assert "WRITABLE" not in said
    assert '52365 "raylet: success' in said
    assert '52366 "raylet: success' in said
    assert "other token: 1" in said
    status = json.loads(said.partition("STATUS ")[2].splitlines()[0])
    assert status["exit_code"] == 0, said
    assert status["submission"] == written["RESNET_DIST_SUBMISSION"]
    assert "/storage/outputs/runs/example/logs/driver-" in said
    metrics = set(said.partition("METRICS ")[2].splitlines()[0].split())
    assert {"ray_node_cpu_utilization", "ray_node_mem_used", "ray_train_controller_state"} <= metrics
