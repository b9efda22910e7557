"""What KubeRay, Kueue and the kubelets do with a RayJob, one state at a time, as a test plays it.

Objects, labels, conditions and messages are as the real ones write them; nothing happens by itself.
"""

import copy
import secrets
from typing import Any

from cluster.kube.client.kinds import POD, RAY_JOB, WORKLOAD, Object
from tests.kube_server.kueue import decision, pod_sets_of
from tests.kube_server.pod_acts import KUBELET, KUBERAY, KUEUE, PodActs, ended, owner_of
from tests.kube_server.store import RAY_CLUSTER, now

NO_QUOTA = (
    "couldn't assign flavors to pod set workers: insufficient unused quota for nvidia.com/gpu in flavor h100, "
    "4 more needed"
)
NO_NODE = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available."
NO_IMAGE = 'Back-off pulling image "resnet-dist:0.2.0-gpu": ErrImagePull: not found'
SUBMITTER = "ray-job-submitter"


class Operators(PodActs):
    """Plays the states of the RayJobs of one namespace."""

    # Kueue

    def queue(self, job: str, message: str = NO_QUOTA) -> Object:
        """Kueue suspends a job and makes its Workload, which waits for quota; returns the Workload."""
        self._change(RAY_JOB, job, lambda body: body["spec"].update(suspend=True), KUEUE)
        self.set_status(job, jobDeploymentStatus="Suspended")
        body, labels = self.job(job), self.job(job)["metadata"].get("labels") or {}
        priority = labels.get("kueue.x-k8s.io/priority-class")
        reference = {"group": "kueue.x-k8s.io", "kind": "WorkloadPriorityClass", "name": priority}
        workload = self.server.store.create(WORKLOAD, self.namespace, {
            "apiVersion": WORKLOAD.api_version, "kind": WORKLOAD.name,
            "metadata": {
                "name": f"rayjob-{job}-{_suffix()}",
                "labels": {"kueue.x-k8s.io/job-uid": body["metadata"]["uid"]},
                "ownerReferences": [owner_of(body)],
            },
            "spec": {
                "queueName": labels.get("kueue.x-k8s.io/queue-name", ""), "active": True, "priority": 0,
                "podSets": pod_sets_of(body),
            } | ({"priorityClassRef": reference} if priority else {}),
        }, KUEUE)  # fmt: skip
        return self.set_conditions(workload, QuotaReserved=("False", "Pending", message))

    def schedule(self, job: str) -> bool:
        """Kueue decides about a job that waits, by quota; whether it lets it go."""
        workload = self.workload(job)
        found = decision(self.server.store, self.job(job), workload)
        if isinstance(found, str):
            self.set_conditions(workload, QuotaReserved=("False", "Pending", found))
            return False
        name = workload["metadata"]["name"]
        self._change(WORKLOAD, name, lambda body: body["status"].update(admission=found), KUEUE, "status")
        self.admit(job)
        return True

    def admit(self, job: str) -> None:
        """Kueue has quota for a job and lets it go."""
        self.set_conditions(
            self.workload(job),
            QuotaReserved=("True", "QuotaReserved", "Quota reserved in ClusterQueue default"),
            Admitted=("True", "Admitted", "The workload is admitted"),
            Evicted=None,
        )
        self._change(RAY_JOB, job, lambda body: body["spec"].update(suspend=False), KUEUE)

    def evict(self, job: str, reason: str = "Preempted", message: str = "Preempted to accommodate a workload") -> None:
        """Kueue takes the quota back: the job's cluster goes away, and it waits again."""
        self.set_conditions(
            self.workload(job),
            Evicted=("True", reason, message),
            Admitted=("False", "NoReservation", "The workload has no reservation"),
            QuotaReserved=("False", "Pending", message),
        )
        name = self.workload(job)["metadata"]["name"]
        self._change(WORKLOAD, name, lambda body: body["status"].pop("admission", None), KUEUE, "status")
        self._change(RAY_JOB, job, lambda body: body["spec"].update(suspend=True), KUEUE)
        self.delete_cluster(job)
        self.set_status(job, jobDeploymentStatus="Suspended", jobStatus="", rayClusterName="", jobId="")

    def workload(self, job: str) -> Object:
        """The job's Workload."""
        return self._owned(WORKLOAD, self.job(job))[0]

    def set_conditions(self, body: Object, **conditions: tuple[str, str, str] | None) -> Object:
        """Set conditions of a Workload, each (status, reason, message); None takes one away."""

        def change(body: Object) -> None:
            status = body.setdefault("status", {})
            left = [each for each in status.get("conditions", []) if each["type"] not in conditions]
            status["conditions"] = left + [
                {"type": kind, "status": value[0], "reason": value[1], "message": value[2], "lastTransitionTime": now()}
                for kind, value in conditions.items() if value is not None
            ]  # fmt: skip

        return self._change(WORKLOAD, body["metadata"]["name"], change, KUEUE, "status")

    # KubeRay

    def job(self, job: str) -> Object:
        """The RayJob as it is."""
        return self.server.store.get(RAY_JOB, self.namespace, job)

    def set_status(self, job: str, **fields: Any) -> Object:
        """Set fields of a RayJob's status, as KubeRay does."""
        return self._change(RAY_JOB, job, lambda body: body.setdefault("status", {}).update(fields), KUBERAY, "status")

    def start(self, job: str) -> list[Object]:
        """KubeRay makes a RayCluster for a job; returns its pods (the head is the first), which wait for a node."""
        body = self.job(job)
        name = f"{job}-{_suffix()}"
        spec = copy.deepcopy(body["spec"]["rayClusterSpec"])
        cluster = self.server.store.create(RAY_CLUSTER, self.namespace, {
            "apiVersion": RAY_CLUSTER.api_version, "kind": RAY_CLUSTER.name,
            "metadata": {
                "name": name, "ownerReferences": [owner_of(body)],
                "labels": (body["metadata"].get("labels") or {}) | {
                    "ray.io/originated-from-crd": "RayJob", "ray.io/originated-from-cr-name": job,
                },
            },
            "spec": spec,
        }, KUBERAY)  # fmt: skip
        self.set_status(
            job, jobDeploymentStatus="Initializing", jobStatus="", rayClusterName=name,
            jobId=f"{job}-{_suffix()}", startTime=now(),
        )  # fmt: skip
        pods = [self._ray_pod(cluster, "head", "headgroup", spec["headGroupSpec"]["template"])]
        for group in spec.get("workerGroupSpecs") or []:
            count, template = group.get("replicas", 1), group["template"]
            pods += [self._ray_pod(cluster, "worker", group["groupName"], template) for _ in range(count)]
        return pods

    def run(self, job: str) -> Object:
        """All pods of a job run, and its submitter; returns the submitter's pod."""
        for pod in self.pods(job):
            self.set_container(pod, "Running", {"running": {"startedAt": now()}})
        self.set_status(job, jobDeploymentStatus="Running", jobStatus="RUNNING")
        submitter = self._pod(
            f"{job}-{_suffix()}",
            {"job-name": job, "batch.kubernetes.io/job-name": job},
            {"containers": [{"name": SUBMITTER, "image": "resnet-dist:0.2.0-cpu"}]},
            self.job(job),
        )
        self.event(self._submitter_job(job), "SuccessfulCreate", "Created pod", kind="Normal")
        return self.set_container(submitter, "Running", {"running": {"startedAt": now()}})

    def refuse_submitter(self, job: str) -> None:
        """Kueue's webhook refuses the submitter's first Pod, since it has not seen its Job yet.

        The Job controller tries again at once, and the event stays."""
        said = 'Error creating: admission webhook "mpod.kb.io" denied the request: Job.batch "{}" not found'
        self.event(self._submitter_job(job), "FailedCreate", said.format(job))

    def lose_head(self, job: str) -> None:
        """The head's pod is gone, and the pod that submitted the job ends."""
        head = self.pods(job)[0]
        self.server.store.delete(POD, self.namespace, head["metadata"]["name"], {"propagationPolicy": "Foreground"})
        self.end_submitter(job, 1)

    def replace_head(self, job: str) -> None:
        """KubeRay makes another head in the same cluster, and the submitter's next pod submits the job again."""
        (cluster,) = self._owned(RAY_CLUSTER, self.job(job))
        self._ray_pod(cluster, "head", "headgroup", cluster["spec"]["headGroupSpec"]["template"])
        self.run(job)

    def end_early(self, job: str, exit_code: int = 0) -> None:
        """The job's entrypoint ends; for up to 30 s KubeRay still calls its deployment Running."""
        self.end_submitter(job, exit_code)
        text = f"Job entrypoint command failed with exit code {exit_code}, last available logs:\n" if exit_code else ""
        self.set_status(
            job, jobDeploymentStatus="Running", jobStatus="FAILED" if exit_code else "SUCCEEDED", message=text
        )

    def succeed(self, job: str) -> None:
        """The job's entrypoint ends with 0."""
        self.end_submitter(job, 0)
        count = self.job(job).get("status", {}).get("succeeded", 0) + 1
        self.set_status(job, jobDeploymentStatus="Complete", jobStatus="SUCCEEDED", endTime=now(), succeeded=count)

    def fail(
        self,
        job: str,
        exit_code: int = 1,
        reason: str = "AppFailed",
        message: str = "",
        deployment: str = "Failed",
    ) -> None:
        """The job's entrypoint ends with another code, and there are no retries left."""
        self.end_submitter(job, exit_code)
        text = message or f"Job entrypoint command failed with exit code {exit_code}, last available logs:\n"
        self.set_status(
            job, jobDeploymentStatus=deployment, jobStatus="FAILED", reason=reason, message=text, endTime=now(),
            failed=self.job(job).get("status", {}).get("failed", 0) + 1,
        )  # fmt: skip

    def retry(self, job: str, exit_code: int = 1, message: str = "") -> None:
        """The job's entrypoint ends with another code, and a new cluster is to be made: `start` comes next."""
        self.fail(job, exit_code, message=message, deployment="Retrying")
        self.delete_cluster(job)
        self.set_status(job, rayClusterName="", jobId="", jobStatus="", reason="", message="", endTime=None)

    def delete_cluster(self, job: str) -> None:
        """The job's RayCluster goes away, with its pods, and the submitter's pod, too."""
        body = self.job(job)
        for kind in (RAY_CLUSTER, POD):
            for owned in self._owned(kind, body):
                self.server.store.delete(
                    kind, self.namespace, owned["metadata"]["name"], {"propagationPolicy": "Foreground"}
                )

    # Pods

    def pods(self, job: str) -> list[Object]:
        """The pods of the job's RayCluster, the head's first."""
        found = [pod for cluster in self._owned(RAY_CLUSTER, self.job(job)) for pod in self._owned(POD, cluster)]
        return sorted(found, key=lambda pod: pod["metadata"]["labels"]["ray.io/node-type"])

    def submitter(self, job: str) -> Object | None:
        """The pod that prints the driver's lines."""
        found = self._owned(POD, self.job(job))
        return found[-1] if found else None

    def end_submitter(self, job: str, exit_code: int) -> None:
        """The submitter's container ends, and its log with it."""
        pod = self.submitter(job)
        if pod is not None:
            self.set_container(pod, "Failed" if exit_code else "Succeeded", ended(exit_code))
            self.server.logs.end((self.namespace, pod["metadata"]["name"], SUBMITTER))

    def say(self, job: str, *lines: str) -> None:
        """The driver prints lines, which the submitter's log has."""
        pod = self.submitter(job)
        if pod is None:
            raise LookupError(f"{job} has no submitter; call run() before")
        self.server.logs.say((self.namespace, pod["metadata"]["name"], SUBMITTER), *lines)

    def unschedulable(self, job: str, message: str = NO_NODE) -> None:
        """No node has room for the job's pods."""
        for pod in self.pods(job):
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
            self._change(
                POD,
                pod["metadata"]["name"],
                lambda body, it=condition: body["status"].update(conditions=[it]),
                KUBELET,
                "status",
            )
            self.event(pod, "FailedScheduling", message)

    def image_pull_failure(self, job: str, message: str = NO_IMAGE) -> None:
        """The job's image cannot be pulled."""
        for pod in self.pods(job):
            self.set_container(pod, "Pending", {"waiting": {"reason": "ImagePullBackOff", "message": message}})
            self.event(pod, "Failed", message)

    def oom_kill(self, job: str, pod: Object | None = None) -> Object:
        """A pod of the job (the last worker, if none is given) needs more memory than its limit; returns it."""
        pod = pod or self.pods(job)[-1]
        return self.set_container(pod, "Failed", ended(137, "OOMKilled"))

    def _submitter_job(self, job: str) -> Object:
        """KubeRay's batch Job, which has the RayJob's name; the server does not serve it."""
        metadata = {"name": job, "namespace": self.namespace, "uid": f"{self.job(job)['metadata']['uid']}-submitter"}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}

    def _ray_pod(self, cluster: Object, node: str, group: str, template: Object) -> Object:
        name = cluster["metadata"]["name"]
        middle = "head" if node == "head" else f"{group}-worker"
        labels = {"ray.io/cluster": name, "ray.io/node-type": node, "ray.io/group": group, "ray.io/is-ray-node": "yes"}
        labels |= (template.get("metadata") or {}).get("labels") or {}
        return self._pod(f"{name}-{middle}-{_suffix()}", labels, template["spec"], cluster)


def _suffix() -> str:
    return secrets.token_hex(3)[:5]
