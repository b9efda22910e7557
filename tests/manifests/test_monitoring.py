"""What is watched exists: ports, labels and metrics are those of the pods and of the Ray that is installed."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.kube.manifests import load_job
from tests.manifests.network import Pod
from tests.manifests.places import K8S, read
from tests.manifests.pods import pod_templates

COMPONENT = K8S / "components" / "monitoring"
DASHBOARD: dict[str, Any] = json.loads((COMPONENT / "dashboards" / "resnet-dist.json").read_text(encoding="utf-8"))
(MONITOR,) = read(COMPONENT / "pod-monitor.yaml")


def exported() -> set[str]:
    """Metrics that this Ray exports, by its own dashboards."""
    folder = Path(ray.__file__).parent / "dashboard" / "modules" / "metrics" / "dashboards"
    texts = [path.read_text(encoding="utf-8") for path in folder.glob("*_panels.py")]
    return {name for text in texts for name in re.findall(r"\b(ray_\w+)\{", text)}


def expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_every_metric_of_the_dashboard_is_one_of_rays():
    used = {name for text in expressions() for name in re.findall(r"\b(ray_\w+)\{", text)}
    assert used
    assert used <= exported()
    variables = [each["query"] for each in DASHBOARD["templating"]["list"]]
    assert {name for text in variables for name in re.findall(r"\bray_\w+", text)} <= exported()


def test_a_metric_that_ray_does_not_have_would_be_seen():
    assert "ray_node_gpus_utilization" in exported()
    assert "ray_gpu_utilisation" not in exported()


def test_panels_are_complete_and_do_not_overlap():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert all(panel["title"] and panel["targets"] for panel in DASHBOARD["panels"])
    assert all('resnet_dist_job=~"$job"' in text for text in expressions())
    cells = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_every_bracket_of_an_expression_closes():
    for text in expressions():
        for opening, closing in ("()", "{}", "[]"):
            assert text.count(opening) == text.count(closing), text


@pytest.mark.parametrize("role", ["head", "worker"])
def test_the_monitor_finds_the_port_of_each_ray_pod(role: str):
    found = [
        each for job in load_job("train") for _, each in pod_templates(job)
        if each["metadata"]["labels"]["resnet-dist/role"] == role
    ]  # fmt: skip
    for template in found:
        (expression,) = MONITOR["spec"]["selector"]["matchExpressions"]
        assert Pod(template["metadata"]["labels"]).labels[expression["key"]] in expression["values"]
        names = {port["name"] for each in template["spec"]["containers"] for port in each["ports"]}
        assert {each["port"] for each in MONITOR["spec"]["podMetricsEndpoints"]} <= names


def test_the_label_that_the_dashboard_chooses_by_is_made_of_the_pods_label():
    (endpoint,) = MONITOR["spec"]["podMetricsEndpoints"]
    made = {each["targetLabel"]: each["sourceLabels"] for each in endpoint["relabelings"]}
    # Prometheus writes what no label name may have as "_".
    assert made["resnet_dist_job"] == ["__meta_kubernetes_pod_label_" + re.sub(r"\W", "_", "resnet-dist/job")]


def test_the_monitor_has_no_field_that_is_not_known():
    """The Prometheus operator's definitions are not at hand: what is written is what its documentation has."""
    assert MONITOR.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert MONITOR["spec"].keys() == {"selector", "podMetricsEndpoints"}
    assert all(each.keys() == {"port", "interval", "relabelings"} for each in MONITOR["spec"]["podMetricsEndpoints"])
