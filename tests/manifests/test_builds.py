"""Everything that can be applied builds, and every object of it is valid, consistent and within the policy."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.manifests.places import K8S, VERBS, build, jobs, needs_definitions, needs_kubectl, read
from tests.manifests.validation import problems_of

BUILT = sorted(
    str(path.parent.relative_to(K8S))
    for path in K8S.rglob("kustomization.yaml")
    if "kind: Component" not in path.read_text(encoding="utf-8")
)
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir() if path.is_dir())

pytestmark = needs_definitions


def wrong(objects: list[dict[str, Any]]) -> list[str]:
    return [
        f"{each['kind']} {each['metadata'].get('name')}: {problem}" for each in objects for problem in problems_of(each)
    ]


def test_there_is_something_to_check():
    assert {"base", "jobs", "overlays/cpu-kind", "overlays/gpu", "overlays/gpu-elastic"} <= set(BUILT)


@needs_kubectl
@pytest.mark.parametrize("folder", BUILT)
def test_what_is_applied_is_valid(folder: str):
    objects = build(K8S / folder)
    assert wrong(objects) == []
    names = Counter((each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects)
    assert max(names.values()) == 1


@pytest.mark.parametrize("verb", VERBS)
def test_a_job_is_valid_as_it_stands(verb: str):
    assert wrong(read(K8S / "jobs" / f"{verb}.yaml")) == []


@needs_kubectl
@pytest.mark.parametrize("component", COMPONENTS)
def test_each_component_goes_with_base_and_jobs(component: str, tmp_path: Path):
    objects = build_with(tmp_path, component)
    assert wrong(objects) == []
    assert jobs(objects).keys() == set(VERBS)


@needs_kubectl
@pytest.mark.parametrize("overlay", sorted(path.name for path in (K8S / "overlays").iterdir() if path.is_dir()))
def test_no_overlay_needs_an_operator_that_a_cluster_may_lack(overlay: str):
    """But KubeRay and Kueue: with an unknown kind, kubectl applies only a part."""
    assert "PodMonitor" not in {each["kind"] for each in build(K8S / "overlays" / overlay)}


@needs_kubectl
def test_all_storage_in_one_namespace(tmp_path: Path):
    """Storage is chosen, but nothing forbids several: a claim for data and a store for results."""
    assert wrong(build_with(tmp_path, *(each for each in COMPONENTS if each.startswith("storage-")))) == []


def build_with(folder: Path, *components: str) -> list[dict[str, Any]]:
    shutil.copytree(K8S, folder / "k8s")
    overlay = folder / "k8s" / "overlays" / "tried"
    overlay.mkdir()
    listed = "".join(f"  - ../../components/{each}\n" for each in components)
    (overlay / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: tried\n"
        f"resources:\n  - ../../base\n  - ../../jobs\ncomponents:\n{listed}"
    )
    return build(overlay)


def volume_of(job: dict[str, Any], group: int, name: str) -> dict[str, Any]:
    cluster = job["spec"]["rayClusterSpec"]
    place = cluster["headGroupSpec"] if group == 0 else cluster["workerGroupSpecs"][group - 1]
    return next(each for each in place["template"]["spec"]["volumes"] if each["name"] == name)


@needs_kubectl
def test_a_claim_is_in_every_pod_that_reads_or_writes(tmp_path: Path):
    objects = build_with(tmp_path, "storage-claim")
    (claim,) = [each for each in objects if each["kind"] == "PersistentVolumeClaim"]
    for verb, job in jobs(objects).items():
        for group in range(1 if verb == "export" else 2):
            volume = volume_of(job, group, "storage")
            assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


@needs_kubectl
def test_a_walled_cluster_has_no_open_namespace(tmp_path: Path):
    objects = build_with(tmp_path, "network-per-cluster")
    policies = {each["metadata"]["name"] for each in objects if each["kind"] == "NetworkPolicy"}
    assert "resnet-dist-ray" not in policies
    assert {"default-deny", "resnet-dist-dns", "resnet-dist-storage"} <= policies
    assert all(job["spec"]["rayClusterSpec"]["networkPolicy"] == {"mode": "DenyAll"} for job in jobs(objects).values())


@needs_kubectl
def test_a_laptop_needs_no_gpu_and_few_cpus():
    for job in jobs(build(K8S / "overlays" / "cpu-kind")).values():
        cluster = job["spec"]["rayClusterSpec"]
        groups = [
            (1, cluster["headGroupSpec"]),
            *((each["replicas"], each) for each in cluster.get("workerGroupSpecs", [])),
        ]
        cpus, memory = 0, 0
        for count, group in groups:
            spec = group["template"]["spec"]
            (container,) = spec["containers"]
            assert container["image"].endswith("-cpu")
            assert "tolerations" not in spec
            requests = container["resources"]["requests"]
            assert requests.keys() == {"cpu", "memory"}
            cpus += count * int(requests["cpu"])
            memory += count * int(requests["memory"].removesuffix("Gi"))
        assert cpus <= 4
        assert memory <= 12


@needs_kubectl
def test_elastic_jobs_scale_by_autoscaler_v2_and_their_heads_alone_may_speak_to_kubernetes():
    for verb, job in jobs(build(K8S / "overlays" / "gpu-elastic")).items():
        cluster = job["spec"]["rayClusterSpec"]
        head = cluster["headGroupSpec"]["template"]["spec"]
        if verb == "export":  # has no workers to scale
            assert not cluster["enableInTreeAutoscaling"]
            continue
        assert cluster["enableInTreeAutoscaling"]
        assert cluster["autoscalerOptions"]["version"] == "v2"
        assert head["serviceAccountName"] == "resnet-dist-autoscaler"
        assert head["automountServiceAccountToken"] is True
        (workers,) = cluster["workerGroupSpecs"]
        assert workers["template"]["spec"]["serviceAccountName"] == "resnet-dist"
        assert workers["template"]["spec"]["automountServiceAccountToken"] is False
        assert "kueue.x-k8s.io/queue-name" not in job["metadata"]["labels"]


@needs_kubectl
@pytest.mark.parametrize("overlay", ["cpu-kind", "gpu", "gpu-elastic"])
def test_the_namespace_enforces_the_restricted_standard_and_nothing_lies_outside(overlay: str):
    objects = build(K8S / "overlays" / overlay)
    (namespace,) = [each for each in objects if each["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [each for each in objects if each["kind"] != "Namespace"]
    assert {each["metadata"]["namespace"] for each in others} == {namespace["metadata"]["name"]}
    assert not any(each["kind"].startswith("Cluster") for each in objects)


@needs_kubectl
@pytest.mark.parametrize("overlay", ["cpu-kind", "gpu", "gpu-elastic"])
def test_labels_tell_a_namespaces_own_things_from_each_job(overlay: str):
    """So that `kubectl apply -k ... -l` can choose: `!resnet-dist/verb`, or one verb."""
    objects = build(K8S / "overlays" / overlay)
    by_verb = Counter((each["metadata"].get("labels") or {}).get("resnet-dist/verb") for each in objects)
    assert {verb: count for verb, count in by_verb.items() if verb} == dict.fromkeys(VERBS, 2)
