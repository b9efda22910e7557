"""Kubernetes objects as plain dicts: the kinds that jobs and queues are made of, and how their fields are read."""

from dataclasses import dataclass
from typing import Any, cast

Object = dict[str, Any]
"""A Kubernetes object as JSON has it."""


@dataclass(frozen=True)
class Kind:
    """A kind in the version that we write."""

    api_version: str
    name: str
    plural: str
    namespaced: bool = True

    @property
    def path(self) -> str:
        """Where its API group is served: "/apis/ray.io/v1"."""
        return f"/{'apis' if '/' in self.api_version else 'api'}/{self.api_version}"


CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SECRET = Kind("v1", "Secret", "secrets")
POD = Kind("v1", "Pod", "pods")
EVENT = Kind("v1", "Event", "events")
NAMESPACE = Kind("v1", "Namespace", "namespaces", namespaced=False)
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
RAY_JOB = Kind("ray.io/v1", "RayJob", "rayjobs")
LOCAL_QUEUE = Kind("kueue.x-k8s.io/v1beta2", "LocalQueue", "localqueues")
CLUSTER_QUEUE = Kind("kueue.x-k8s.io/v1beta2", "ClusterQueue", "clusterqueues", namespaced=False)
RESOURCE_FLAVOR = Kind("kueue.x-k8s.io/v1beta2", "ResourceFlavor", "resourceflavors", namespaced=False)
WORKLOAD = Kind("kueue.x-k8s.io/v1beta2", "Workload", "workloads")
WORKLOAD_PRIORITY_CLASS = Kind(
    "kueue.x-k8s.io/v1beta2", "WorkloadPriorityClass", "workloadpriorityclasses", namespaced=False
)
COHORT = Kind("kueue.x-k8s.io/v1beta2", "Cohort", "cohorts", namespaced=False)
RESOURCE_QUOTA = Kind("v1", "ResourceQuota", "resourcequotas")
LIMIT_RANGE = Kind("v1", "LimitRange", "limitranges")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
ROLE_BINDING = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
CLUSTER_ROLE = Kind("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False)
CLUSTER_ROLE_BINDING = Kind(
    "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
)
ROLE = Kind("rbac.authorization.k8s.io/v1", "Role", "roles")
ADMISSION_POLICY_BINDING = Kind(
    "admissionregistration.k8s.io/v1",
    "ValidatingAdmissionPolicyBinding",
    "validatingadmissionpolicybindings",
    namespaced=False,
)
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")


def part(body: Object, *keys: str) -> Object:
    """The object inside an object at a path; empty where there is none."""
    for key in keys:
        inside: Any = body.get(key)
        body = cast("Object", inside) if isinstance(inside, dict) else {}
    return body


def entries(body: Object, *keys: str) -> list[Object]:
    """The objects in the list at a path; empty where there is none."""
    found: Any = part(body, *keys[:-1]).get(keys[-1])
    return [each for each in cast("list[Any]", found) if isinstance(each, dict)] if isinstance(found, list) else []


def name_of(body: Object) -> str:
    """An object's name; empty where it has none."""
    return str(part(body, "metadata").get("name", ""))
