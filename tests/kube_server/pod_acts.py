"""Pods and events in a test's namespace, as KubeRay and the kubelets write them."""

import copy
import secrets
from typing import Any

from cluster.kube.client.kinds import EVENT, POD, Kind, Object
from tests.kube_server.server import KubeServer
from tests.kube_server.store import WriteOptions, now

KUBERAY, KUEUE, KUBELET = (
    WriteOptions(manager="kuberay-operator"),
    WriteOptions(manager="kueue"),
    WriteOptions(manager="kubelet"),
)


class PodActs:
    """Makes and changes the pods of one namespace."""

    def __init__(self, server: KubeServer, namespace: str = "default") -> None:
        self.server = server
        self.namespace = namespace

    def set_container(self, pod: Object, phase: str, state: Object) -> Object:
        """Set a pod's phase, and the state of its first container."""
        container = pod["spec"]["containers"][0]
        status = {
            "name": container["name"], "image": container.get("image", ""), "imageID": "", "ready": "running" in state,
            "restartCount": 0, "state": state,
        }  # fmt: skip

        def change(body: Object) -> None:
            body["status"] = {**body.get("status", {}), "phase": phase, "containerStatuses": [status]}

        return self._change(POD, pod["metadata"]["name"], change, KUBELET, "status")

    def event(self, body: Object, reason: str, message: str, kind: str = "Warning") -> Object:
        """An Event about an object."""
        metadata = body["metadata"]
        return self.server.store.create(EVENT, self.namespace, {
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{secrets.token_hex(8)}"},
            "involvedObject": {
                "apiVersion": body["apiVersion"], "kind": body["kind"], "name": metadata["name"],
                "namespace": metadata.get("namespace", ""), "uid": metadata["uid"],
            },
            "reason": reason, "message": message, "type": kind, "count": 1,
            "firstTimestamp": now(), "lastTimestamp": now(), "source": {"component": "tests"},
        })  # fmt: skip

    def _pod(self, name: str, labels: dict[str, str], spec: Object, owner: Object) -> Object:
        body = {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": labels, "ownerReferences": [owner_of(owner)]},
            "spec": copy.deepcopy(spec),
        }  # fmt: skip
        self.server.store.create(POD, self.namespace, body, KUBERAY)
        return self._change(POD, name, lambda body: body.update(status={"phase": "Pending"}), KUBELET, "status")

    def _owned(self, kind: Kind, owner: Object) -> list[Object]:
        uid = owner["metadata"]["uid"]
        found = [
            body for body in self.server.store.objects(kind, self.namespace)
            if any(each["uid"] == uid for each in body["metadata"].get("ownerReferences") or [])
        ]  # fmt: skip
        return sorted(found, key=lambda body: int(body["metadata"]["resourceVersion"]))

    def _change(self, kind: Kind, name: str, change: Any, how: WriteOptions, part: str = "") -> Object:
        with self.server.store.changed:
            body = self.server.store.get(kind, self.namespace, name)
            change(body)
            return self.server.store.replace(kind, self.namespace, name, body, how, part)


def owner_of(body: Object) -> Object:
    metadata = body["metadata"]
    return {
        "apiVersion": body["apiVersion"], "kind": body["kind"], "name": metadata["name"], "uid": metadata["uid"],
        "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip


def ended(exit_code: int, reason: str = "") -> Object:
    reason = reason or ("Error" if exit_code else "Completed")
    return {"terminated": {"exitCode": exit_code, "reason": reason, "startedAt": now(), "finishedAt": now()}}
