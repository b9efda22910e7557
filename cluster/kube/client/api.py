"""Objects of a Kubernetes cluster: read and written as plain dicts, through outages of its API server."""

import secrets
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import quote

from cluster.errors import NoSuchObjectError, ObjectChangedError
from cluster.kube.client.connection import Connection, Request
from cluster.kube.client.discovery import refuse_unserved, serves
from cluster.kube.client.identity import ACCOUNT, find_identity
from cluster.kube.client.kinds import NAMESPACE, POD, Kind, Object, entries, part
from cluster.kube.client.outage import Patience, RefusedError
from cluster.kube.client.pod_logs import PodLog
from cluster.kube.client.refusal import Attempt, error_of

MANAGER = "resnet-dist"
"""How the server's records of who has set which field call us."""
REQUEST = "resnet-dist/request"
"""Annotation: random, of one call of `create`. It tells whether an object is the one that this call has made."""
_PAGE = 500
_MERGE, _APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # those of Kubernetes' own generated names: they spell no words


class KubeApi:
    """An API server. Methods try again through outages of minutes; any thread may call them.

    Raises NoSuchObjectError (404), ObjectChangedError (409), SubmissionError for all else that the server refuses or
    that keeps us from it, and TargetUnreachableError when it has not answered for minutes.
    """

    def __init__(self, connection: Connection, namespace: str) -> None:
        self._connection = connection
        self.namespace = namespace
        """Where objects are looked for and made, where no namespace is given."""
        self.server = connection.server
        """The API server's address, without credentials."""

    @classmethod
    def connect(
        cls,
        context: str | None = None,
        namespace: str | None = None,
        *,
        patience: Patience = Patience(),  # noqa: B008 - it is frozen
        account: Path = ACCOUNT,
    ) -> Self:
        """As a kubeconfig says (KUBECONFIG, else ~/.kube/config; `context`: not its current one), or in a pod without
        one as its service account. Sends nothing yet.

        The namespace is the argument, else the context's or the pod's, else "default".
        """
        identity = find_identity(context, account)
        connection = Connection(identity, patience)
        return cls(connection, namespace or identity.namespace or "default")

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        """One object."""
        space = self._space(kind, namespace)
        return self._ask(Attempt("get", kind, space, name), Request("GET", _path(kind, space, name)))

    def list(
        self,
        kind: Kind,
        labels: Mapping[str, str] | None = None,
        namespace: str | None = None,
        *,
        everywhere: bool = False,
    ) -> list[Object]:
        """All objects of a kind that have these labels; `everywhere`: in all namespaces."""
        space = "" if everywhere else self._space(kind, namespace)
        selection = {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())} if labels else {}
        with self._refusals(Attempt("list", kind, space)):
            return _pages(self._connection, kind, Request("GET", _path(kind, space), selection))

    def create(self, kind: Kind, body: Object, *, dry_run: bool = False) -> Object:
        """A new object, in the namespace that its metadata names; once, also where the answer was lost and the request
        was sent again. `dry_run`: let the server check it only."""
        body = {**body, "metadata": {**body["metadata"]}}
        metadata = body["metadata"]
        if "name" not in metadata and "generateName" in metadata:
            # The server would make another name, and another object, each time that the request is sent.
            metadata["name"] = metadata["generateName"] + "".join(secrets.choice(_LETTERS) for _ in range(5))
        mark = secrets.token_hex(8)
        metadata["annotations"] = {**part(metadata, "annotations"), REQUEST: mark}
        space, name = self._space(kind, metadata.get("namespace")), str(metadata["name"])
        attempt = Attempt("create", kind, space, name)
        request = Request("POST", _path(kind, space), _write_query(dry_run), body)
        try:
            return self._ask(attempt, request)
        except ObjectChangedError:
            made = self._made(kind, name, space)
            if made is not None and part(made, "metadata", "annotations").get(REQUEST) == mark:
                return made
            raise

    def replace(self, kind: Kind, body: Object, *, dry_run: bool = False) -> Object:
        """An object as it is to be, if it is still of the `metadata.resourceVersion` that the body has."""
        metadata = body["metadata"]
        space, name = self._space(kind, metadata.get("namespace")), str(metadata["name"])
        request = Request("PUT", _path(kind, space, name), _write_query(dry_run), body)
        try:
            return self._ask(Attempt("update", kind, space, name), request)
        except ObjectChangedError:
            # Carried out all the same, if its answer was lost and it was sent again.
            there = self._made(kind, name, space)
            if there is None or not _is_replaced(there, body):
                raise
            return there

    def apply(self, kind: Kind, body: Object, *, dry_run: bool = False) -> Object:
        """Make an object have the fields of the body (server-side apply); ObjectChangedError where another manager has
        set one of them to another value."""
        metadata = body["metadata"]
        space, name = self._space(kind, metadata.get("namespace")), str(metadata["name"])
        query = {**_write_query(dry_run), "force": "false"}
        request = Request("PATCH", _path(kind, space, name), query, body, _APPLY)
        return self._ask(Attempt("patch", kind, space, name), request)

    def patch(self, kind: Kind, name: str, patch: Object, namespace: str | None = None) -> Object:
        """Change some fields (merge patch: null takes one away); may be sent twice, which leads to the same."""
        space = self._space(kind, namespace)
        request = Request("PATCH", _path(kind, space, name), _write_query(dry_run=False), patch, _MERGE)
        try:
            return self._ask(Attempt("patch", kind, space, name), request)
        except ObjectChangedError:
            there = self._made(kind, name, space)
            metadata = {key: value for key, value in part(patch, "metadata").items() if key != "resourceVersion"}
            if there is None or not _is_patched(there, {**patch, "metadata": metadata}):
                raise
            return there

    def delete(self, kind: Kind, name: str, namespace: str | None = None, *, uid: str | None = None) -> None:
        """Take an object away, and then what it owns; gone already is fine. `uid`: only that one of the name, else the
        one that is there now and none that is made meanwhile.

        What it owns goes last: without its token's Secret, KubeRay could not have Ray stop the job that is deleted.
        """
        space = self._space(kind, namespace)
        try:
            uid = uid or str(self.get(kind, name, space)["metadata"]["uid"])
            options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
            body = {**options, "preconditions": {"uid": uid}}
            self._ask(Attempt("delete", kind, space, name), Request("DELETE", _path(kind, space, name), {}, body))
        except NoSuchObjectError:
            return
        except ObjectChangedError:
            there = self._made(kind, name, space)
            if there is not None and there["metadata"]["uid"] == uid:
                raise

    def pod_log(
        self,
        pod: str,
        container: str | None = None,
        *,
        follow: bool,
        namespace: str | None = None,
        since_time: str | None = None,
    ) -> Generator[str]:
        """The lines that a container has printed, without their ends, each once; with `follow` until it has ended.

        A container that has not started yet has no lines. `since_time`: RFC 3339.
        """
        space = self._space(POD, namespace)
        with self._refusals(Attempt("get", Kind("v1", "Pod", "pods/log"), space, pod)):
            yield from PodLog(self._connection, _path(POD, space, pod), container).lines(follow, since_time)

    def serves(self, kind: Kind) -> bool:
        """Whether the API server has this kind in this version."""
        with self._refusals(Attempt("get", kind)):
            return serves(self._connection, kind)

    def require(self, kind: Kind) -> None:
        """Raise SubmissionError where the API server does not have this kind in this version, and say whose it is."""
        with self._refusals(Attempt("get", kind)):
            refuse_unserved(self._connection, kind)

    def may(self, verb: str, kind: Kind, namespace: str | None = None) -> bool:
        """Whether we are allowed a verb; where the server is asked and nothing is tried.

        A Namespace lies in itself to Kubernetes: a role that is bound in it can hold for it.
        """
        resource, _, within = kind.plural.partition("/")
        what = {"verb": verb, "group": kind.api_version.rpartition("/")[0], "resource": resource}
        space = (namespace or "") if kind is NAMESPACE else self._space(kind, namespace)
        what |= {"namespace": space} if space else {}
        what |= {"subresource": within} if within else {}
        review = Kind(
            "authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False
        )
        body = {"apiVersion": review.api_version, "kind": review.name, "spec": {"resourceAttributes": what}}
        answer = self._ask(Attempt("create", review), Request("POST", _path(review, ""), {}, body))
        return bool(part(answer, "status").get("allowed"))

    def _space(self, kind: Kind, namespace: str | None) -> str:
        return (namespace or self.namespace) if kind.namespaced else ""

    def _ask(self, attempt: Attempt, request: Request) -> Object:
        with self._refusals(attempt):
            return self._connection.ask(request)

    @contextmanager
    def _refusals(self, attempt: Attempt) -> Generator[None]:
        """Refusals of the server as errors for people."""
        try:
            yield
        except RefusedError as error:
            status = error.status
        else:
            return
        if status.code == 404 and not status.is_about_an_object:
            with self._refusals(Attempt("get", attempt.kind)):
                refuse_unserved(self._connection, attempt.kind)
        raise error_of(status, attempt, self._connection.identity.words)

    def _made(self, kind: Kind, name: str, namespace: str) -> Object | None:
        """What is there of a name."""
        try:
            return self.get(kind, name, namespace)
        except NoSuchObjectError:
            return None


def _pages(connection: Connection, kind: Kind, selection: Request) -> list[Object]:
    """All pages of a list, of one moment."""
    found: list[Object] = []
    query = {**selection.query, "limit": str(_PAGE)}
    while True:
        try:
            answer = connection.ask(replace(selection, query=query))
        except RefusedError as error:
            if not error.status.is_expired or "continue" not in query:
                raise
            # It took too long from page to page: all at once now.
            found, query = [], {key: value for key, value in query.items() if key not in ("limit", "continue")}
            continue
        # The items of typed lists do not say what they are.
        what = {"apiVersion": kind.api_version, "kind": kind.name}
        found += [{**what, **body} for body in entries(answer, "items")]
        metadata = part(answer, "metadata")
        if not metadata.get("continue"):
            return found
        query["continue"] = str(metadata["continue"])


def _path(kind: Kind, space: str, name: str = "") -> str:
    within = f"/namespaces/{quote(space, safe='')}" if space else ""
    return f"{kind.path}{within}/{kind.plural}" + (f"/{quote(name, safe='')}" if name else "")


def _write_query(dry_run: bool) -> dict[str, str]:
    return {"fieldManager": MANAGER, "fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})


def _is_replaced(there: Object, wanted: Object) -> bool:
    """Whether an object is as a replacement would have it, but for what the server sets."""

    def own(body: Object) -> Object:
        rest = {key: value for key, value in body.items() if key not in ("status", "metadata")}
        return rest | {key: body["metadata"].get(key) or {} for key in ("labels", "annotations", "ownerReferences")}

    return own(there) == own(wanted)


def _is_patched(there: Any, patch: Any) -> bool:
    """Whether a merge patch would change nothing."""
    if not isinstance(patch, dict):
        return there == patch
    inside = cast("Object", there) if isinstance(there, dict) else {}
    return all(
        key not in inside if value is None else _is_patched(inside.get(key), value)
        for key, value in cast("Object", patch).items()
    )
