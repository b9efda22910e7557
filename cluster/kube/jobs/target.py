"""Jobs on Kubernetes: RayJobs of KubeRay, in a team's Kueue queue where one is named."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from cluster.errors import NoSuchObjectError, ObjectChangedError, SubmissionError
from cluster.job_log import own_lines
from cluster.jobs import JOB_FILE, SEARCH_FILE, JobRequest, JobView, refuse_lost_command
from cluster.kube.client.api import KubeApi
from cluster.kube.client.kinds import CONFIG_MAP, POD, RAY_JOB, Object, part
from cluster.kube.jobs.manifest import JobManifest
from cluster.kube.jobs.states import NAME_LABEL, JobObjects, view_of
from cluster.kube.jobs.toml_difference import differences
from cluster.kube.jobs.views import OURS, owner_uids, views_of

_SUBMITTER = "ray-job-submitter"
_SUBMITTED_LABEL = "batch.kubernetes.io/job-name"
"""Kubernetes' own, on pods of the Job that KubeRay submits with; it has the RayJob's name."""
_GONE_S = 900.0
"""How long a deleted job may take: its pods' grace period, and a busy API server."""
_POLL_S = 1.0
_SAME_S = 5.0
"""How often a view is given again whose RayJob has not changed."""


class KubeTarget:
    """A `JobTarget` over the Kubernetes API, in one namespace."""

    def __init__(
        self,
        api: KubeApi,
        render: Callable[[JobRequest], JobManifest] | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`render` makes a request's objects; without it, nothing can be submitted. `say` hears what is waited for."""
        self._api = api
        self._render = render
        self._say = say

    def submit(self, request: JobRequest) -> JobView:
        """Create the job, or find that it is there. Raises SubmissionError, TargetUnreachableError."""
        manifest = self._rendered(request)
        existing = self._existing(request)
        if existing is not None:
            view = self._view(existing)
            refuse_lost_command(view, request)
            if not view.ended or (view.state == "done" and view.content == request.content):
                self._complete(manifest, existing)
                return view
            self._remove(existing)
        self._refuse_others_config_map(request.name)
        try:
            created = self._api.create(RAY_JOB, manifest.ray_job)
        except ObjectChangedError:
            # Somebody else submitted meanwhile: the same job is as good as ours.
            other = self._existing(request)
            if other is None:
                raise
            self._complete(manifest, other)  # whoever made it may not come to that
            return self._view(other)
        self._complete(manifest, created)
        return self._view(created)

    def check(self, request: JobRequest) -> None:
        """Let the API server check the objects without creating them. Raises SubmissionError for what it refuses."""
        manifest = self._rendered(request)
        self._existing(request)
        for kind, body in ((CONFIG_MAP, manifest.config_map), (RAY_JOB, manifest.ray_job)):
            with suppress(ObjectChangedError):  # it is there, with this identity
                self._api.create(kind, body, dry_run=True)

    def list(self) -> list[JobView]:
        """All jobs of the namespace, the newest first."""
        views = views_of(self._api, self._api.list(RAY_JOB, OURS))
        return sorted(views, key=lambda view: view.submitted, reverse=True)

    def view(self, name: str) -> JobView:
        """One job. Raises SubmissionError when there is none, with the names of those that are."""
        return self._view(self._get(name))

    def follow(self, name: str) -> Iterator[JobView]:
        """A job's views until it has ended: the first at once, then one for each change of the RayJob, and one every
        few seconds, because its pods and its queue change without it."""
        job = self._get(name)
        view = self._view(job)
        yield view
        shown = time.monotonic()
        while not view.ended:
            time.sleep(_POLL_S)
            before, job = job, self._now(job)
            if job != before or time.monotonic() - shown > _SAME_S:
                view, shown = self._view(job), time.monotonic()
                yield view

    def logs(self, name: str, *, follow: bool) -> Iterator[str]:
        """What the driver prints, as the pod that submits to Ray repeats it; none where that pod is gone."""
        seen: set[str] = set()
        ended = self._view(self._get(name)).ended
        while True:
            pod = self._submitter(name, seen)
            if pod is not None:
                seen.add(str(pod["metadata"]["uid"]))
                yield from own_lines(self._api.pod_log(str(pod["metadata"]["name"]), _SUBMITTER, follow=follow))
            if not follow or (pod is None and ended):
                return
            # Asked before the pods are: one that is there when the job has ended is the last.
            try:
                ended = self._view(self._get(name)).ended
            except NoSuchObjectError:
                ended = True  # deleted meanwhile
            if not ended:
                time.sleep(_POLL_S)

    def stop(self, name: str) -> JobView:
        """Delete the job; its pods are given their grace period."""
        job = self._get(name)
        self._api.delete(RAY_JOB, name, uid=str(job["metadata"]["uid"]))
        return view_of(JobObjects(_deleted(job)))

    def _rendered(self, request: JobRequest) -> JobManifest:
        if self._render is None:
            raise ValueError("this target was made to look at jobs, not to submit them")
        return self._render(request)

    def _get(self, name: str) -> Object:
        try:
            job = self._api.get(RAY_JOB, name)
        except NoSuchObjectError as error:
            names = sorted(str(each["metadata"]["name"]) for each in self._api.list(RAY_JOB, OURS))
            known = f"; jobs there: {', '.join(names)}" if names else ""
            raise NoSuchObjectError(f"no job {name!r} in namespace {self._api.namespace}{known}") from error
        if not _is_ours(job):
            raise SubmissionError(f"RayJob {name} in namespace {self._api.namespace} is not one of resnet-dist's")
        return job

    def _now(self, job: Object) -> Object:
        """A job as it is now: deleted, where it is gone or another one has its name."""
        try:
            found = self._api.get(RAY_JOB, str(job["metadata"]["name"]))
        except NoSuchObjectError:
            return _deleted(job)
        return found if found["metadata"]["uid"] == job["metadata"]["uid"] else _deleted(job)

    def _existing(self, request: JobRequest) -> Object | None:
        """The job of that name, where its identity is the request's. Raises SubmissionError where it is another's."""
        try:
            job = self._api.get(RAY_JOB, request.name)
        except NoSuchObjectError:
            return None
        if not _is_ours(job):
            raise SubmissionError(
                f"namespace {self._api.namespace} has a RayJob {request.name} that is not one of resnet-dist's; choose "
                "another --name"
            )
        view = view_of(JobObjects(job))
        leaves = "deletionTimestamp" in job["metadata"]
        if view.identity != request.identity and not view.never_began and not leaves:
            changes = "; ".join(self._differences(request)) or "its verb or its run"
            raise SubmissionError(
                f"job {request.name} in namespace {self._api.namespace} is another one (there -> asked: {changes}); "
                f"choose another --name, or remove that one with `resnet-dist jobs stop {request.name}`"
            )
        return job

    def _differences(self, request: JobRequest) -> Sequence[str]:
        """How the job that is there differs from the one that is asked for, by key."""
        try:
            data = part(self._api.get(CONFIG_MAP, request.name), "data")
        except NoSuchObjectError:
            return []
        texts = ((data.get(JOB_FILE), request.job_toml), (data.get(SEARCH_FILE), request.search_toml))
        return [line for stored, requested in texts for line in differences(str(stored or ""), requested or "")]

    def _complete(self, manifest: JobManifest, ray_job: Object) -> None:
        """Create the job's ConfigMap where it is not: its pods wait for it."""
        name, uid = str(ray_job["metadata"]["name"]), str(ray_job["metadata"]["uid"])
        until = time.monotonic() + _GONE_S
        while time.monotonic() < until:
            try:
                stored = self._api.get(CONFIG_MAP, name)
            except NoSuchObjectError:
                with suppress(ObjectChangedError):  # by another submission of the same job
                    self._api.create(CONFIG_MAP, manifest.owned_by(ray_job))
                return
            if uid in owner_uids(stored) or not (owner_uids(stored) and _is_ours(stored)):
                return
            # An earlier job's, deleted by someone else: it would be collected later, under this job's pods.
            self._api.delete(CONFIG_MAP, name, uid=str(stored["metadata"]["uid"]))
            if self._owner(name) is not None:
                time.sleep(_POLL_S)
        raise SubmissionError(
            f"an earlier job's ConfigMap {name} is still being deleted after {_GONE_S:g} s; see `kubectl describe "
            f"configmap {name}` for what holds it, then submit again"
        )

    def _refuse_others_config_map(self, name: str) -> None:
        try:
            stored = self._api.get(CONFIG_MAP, name)
        except NoSuchObjectError:
            return
        if not _is_ours(stored):
            raise SubmissionError(
                f"namespace {self._api.namespace} has a ConfigMap {name} that is not one of resnet-dist's, and the "
                "job's would have that name; choose another --name"
            )

    def _remove(self, ray_job: Object) -> None:
        name, uid = str(ray_job["metadata"]["name"]), str(ray_job["metadata"]["uid"])
        self._api.delete(RAY_JOB, name, uid=uid)
        if uid in (self._uid(name), self._owner(name)):
            self._say(f"waiting until the earlier job {name} is gone: it may store a last checkpoint")
        self._wait_until_gone(name, uid)

    def _wait_until_gone(self, name: str, uid: str) -> None:
        until = time.monotonic() + _GONE_S
        while time.monotonic() < until:
            left = [self._uid(name), self._owner(name)]
            if uid not in left:
                return
            time.sleep(_POLL_S)
        raise SubmissionError(
            f"the earlier job {name} is still being deleted after {_GONE_S:g} s; see `kubectl describe rayjob {name}` "
            "for what holds it, then submit again"
        )

    def _uid(self, name: str) -> str | None:
        try:
            return str(self._api.get(RAY_JOB, name)["metadata"]["uid"])
        except NoSuchObjectError:
            return None

    def _owner(self, name: str) -> str | None:
        """Whose the ConfigMap of that name is: a deleted job's is collected a moment after it."""
        try:
            uids = owner_uids(self._api.get(CONFIG_MAP, name))
        except NoSuchObjectError:
            return None
        return uids[0] if uids else None

    def _submitter(self, name: str, seen: set[str]) -> Object | None:
        """The newest pod that repeats the driver's output and that was not read before."""
        pods = [
            pod
            for pod in self._api.list(POD, {_SUBMITTED_LABEL: name})
            if any(each.get("name") == _SUBMITTER for each in pod["spec"]["containers"])
            and str(pod["metadata"]["uid"]) not in seen
            and pod.get("status", {}).get("phase") not in {None, "Pending"}
        ]
        return max(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), default=None)

    def _view(self, job: Object) -> JobView:
        (view,) = views_of(self._api, [job])
        return view


def _is_ours(job: Object) -> bool:
    return job["metadata"].get("labels", {}).get(NAME_LABEL) == "resnet-dist"


def _deleted(job: Object) -> Object:
    """A job as Kubernetes has it once somebody has deleted it."""
    return {**job, "metadata": {"deletionTimestamp": "now", **job["metadata"]}}
