"""What an API server keeps: objects, the versions of each, and what changed since when."""

import copy
import secrets
import threading
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from cluster.kube.client import kinds
from cluster.kube.client.kinds import Kind, Object
from tests.kube_server import refusals
from tests.kube_server.bodies import refuse_wrong, with_defaults
from tests.kube_server.changes import Change
from tests.kube_server.merging import Owner, Owners, applied_to, conflicts_of, merge_patched, owners_after
from tests.kube_server.selectors import Matches

RAY_CLUSTER = Kind("ray.io/v1", "RayCluster", "rayclusters")
"""KubeRay's own, which our code never reads."""
ALL_KINDS: tuple[Kind, ...] = (*(value for value in vars(kinds).values() if isinstance(value, Kind)), RAY_CLUSTER)
FIRST_VERSION = 1000
_WITHOUT_STATUS = {kinds.CONFIG_MAP, kinds.SECRET, kinds.EVENT, kinds.SERVICE_ACCOUNT}
_SYSTEM = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")

Key = tuple[Kind, str, str]


@dataclass(frozen=True)
class WriteOptions:
    """Options of a write, as the query has them."""

    dry_run: bool = False
    strict: bool = True
    manager: str = "unknown"
    operation: Literal["Apply", "Update"] = "Update"
    force: bool = False

    @property
    def owner(self) -> Owner:
        """Whose the fields are that are written."""
        return self.manager, self.operation


@dataclass
class ObjectStore:
    """Objects of the kinds served. Every method is one transaction; all may be called by any thread.

    `changed` is notified of each change; hold it to read several things of one moment.
    """

    kinds: tuple[Kind, ...] = ALL_KINDS
    version: int = FIRST_VERSION
    oldest: int = FIRST_VERSION
    """What happened after this version is known; a watch from an older one has expired."""
    changes: list[Change] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=lambda: threading.Condition(threading.RLock()))
    _objects: dict[Key, Object] = field(default_factory=dict)
    _owners: dict[Key, Owners] = field(default_factory=dict)

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """One object."""
        with self.changed:
            return copy.deepcopy(self._get(kind, namespace, name))

    def objects(self, kind: Kind, namespace: str = "", matches: Matches = lambda _: True) -> list[Object]:
        """All objects of a kind, in one namespace or in all, by namespace and name."""
        with self.changed:
            keys = sorted((key for key in self._objects if key[0] == kind), key=lambda key: key[1:])
            found = [self._objects[key] for key in keys if not namespace or key[1] == namespace]
            return copy.deepcopy([body for body in found if matches(body)])

    def create(self, kind: Kind, namespace: str, body: Object, how: WriteOptions = WriteOptions()) -> Object:
        """A new object."""
        with self.changed:
            body = self._named(kind, namespace, body)
            metadata = body["metadata"]
            if metadata.get("resourceVersion"):
                raise refusals.bad_request("resourceVersion should not be set on objects to be created")
            if not metadata.get("name") and metadata.get("generateName"):
                metadata["name"] = metadata["generateName"] + secrets.token_hex(3)[:5]
            refuse_wrong(kind, body, None, strict=how.strict)
            name = metadata["name"]
            if kind.namespaced and (kinds.NAMESPACE, "", namespace) not in self._objects:
                raise refusals.not_found(kinds.NAMESPACE, namespace)
            if (kind, namespace, name) in self._objects:
                raise refusals.exists(kind, name)
            for key in _SYSTEM:
                metadata.pop(key, None)
            metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
            if kind not in _WITHOUT_STATUS:
                body.pop("status", None)
            body = with_defaults(body)
            return self._write(kind, body, owners_after({}, body, {}, how.owner), how)

    def backdate(self, kind: Kind, namespace: str, name: str, time: str) -> None:
        """As if an object had been made at another time."""
        with self.changed:
            self._get(kind, namespace, name)["metadata"]["creationTimestamp"] = time

    def replace(
        self, kind: Kind, namespace: str, name: str, body: Object, how: WriteOptions = WriteOptions(), part: str = ""
    ) -> Object:
        """An object as a writer wants it; `part`: "status" for that alone, else all but that."""
        with self.changed:
            live = self._get(kind, namespace, name)
            body = self._named(kind, namespace, body)
            metadata = body["metadata"]
            if metadata.get("name") != name:
                raise refusals.bad_request(
                    f"the name of the object ({metadata.get('name')}) is not that of the URL ({name})"
                )
            if not metadata.get("resourceVersion") and "/" in kind.api_version:
                problem = "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"
                raise refusals.invalid(kind, name, [problem])
            return self._update(kind, live, body, how, part)

    def patch(
        self, kind: Kind, namespace: str, name: str, patch: Object, how: WriteOptions = WriteOptions(), part: str = ""
    ) -> Object:
        """An object after a merge patch."""
        with self.changed:
            live = self._get(kind, namespace, name)
            merged = merge_patched(live, patch)
            if "resourceVersion" not in (patch.get("metadata") or {}):
                merged["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
            return self._update(kind, live, merged, how, part)

    def apply(self, kind: Kind, namespace: str, name: str, body: Object, how: WriteOptions) -> Object:
        """An object with the fields that a manager wants to be so."""
        with self.changed:
            how = replace(how, operation="Apply")
            key = (kind, namespace, name)
            live = self._objects.get(key)
            if live is None:
                return self.create(kind, namespace, body, how)
            owners = self._owners[key]
            conflicts = [] if how.force else conflicts_of(live, body, owners, how.owner)
            if conflicts:
                text = ", ".join(f'conflict with "{who}": .{".".join(path)}' for path, who in conflicts)
                causes = [
                    {
                        "reason": "FieldManagerConflict",
                        "field": "." + ".".join(path),
                        "message": f'conflict with "{who}"',
                    }
                    for path, who in conflicts
                ]
                message = f"Apply failed with {len(conflicts)} conflict{'s'[: len(conflicts) > 1]}: {text}"
                raise refusals.Refusal(409, "Conflict", message, {"causes": causes})
            merged, owners = applied_to(live, body, owners, how.owner)
            merged["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
            return self._update(kind, live, merged, how, "", owners)

    def delete(
        self, kind: Kind, namespace: str, name: str, options: Object | None = None, *, dry_run: bool = False
    ) -> Object:
        """Take an object away, and then what only it owns."""
        with self.changed:
            live, options = self._get(kind, namespace, name), options or {}
            wanted = options.get("preconditions") or {}
            for key in ("uid", "resourceVersion"):
                if wanted.get(key, live["metadata"][key]) != live["metadata"][key]:
                    why = f"Precondition failed: {key} in precondition: {wanted[key]}, it is {live['metadata'][key]}"
                    raise refusals.changed(kind, name, why)
            if dry_run:
                return copy.deepcopy(live)
            in_foreground = options.get("propagationPolicy") == "Foreground"
            if in_foreground or live["metadata"].get("finalizers"):
                dying = copy.deepcopy(live)
                dying["metadata"].setdefault("deletionTimestamp", now())
                finalizers = dying["metadata"].setdefault("finalizers", [])
                if in_foreground and "foregroundDeletion" not in finalizers:
                    finalizers.append("foregroundDeletion")
                if dying != live:
                    live = self._write(kind, dying, self._owners[kind, namespace, name], WriteOptions())
                if in_foreground:
                    self._delete_owned(live)
                    dying = copy.deepcopy(self._objects[kind, namespace, name])
                    dying["metadata"]["finalizers"].remove("foregroundDeletion")
                    live = self._write(kind, dying, self._owners[kind, namespace, name], WriteOptions())
                return copy.deepcopy(live)
            self._remove((kind, namespace, name))
            self._collect()
            return copy.deepcopy(live)

    def after(self, version: int) -> Iterable[Change]:
        """What changed since a version; raises Refusal (410) where that is not known."""
        with self.changed:
            if version < self.oldest:
                raise refusals.expired(version, self.oldest)
            return self.changes[max(version - self.oldest, 0) :]

    def _get(self, kind: Kind, namespace: str, name: str) -> Object:
        if (kind, namespace, name) not in self._objects:
            raise refusals.not_found(kind, name)
        return self._objects[kind, namespace, name]

    def _named(self, kind: Kind, namespace: str, body: Object) -> Object:
        if (body.get("apiVersion"), body.get("kind")) != (kind.api_version, kind.name):
            raise refusals.bad_request(
                f"{body.get('kind')} in version {body.get('apiVersion')!r} cannot be handled as a {kind.name}"
            )
        body = copy.deepcopy(body)
        metadata = body.setdefault("metadata", {})
        if kind.namespaced:
            if metadata.setdefault("namespace", namespace) != namespace:
                raise refusals.bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
        else:
            metadata.pop("namespace", None)
        return body

    def _update(
        self, kind: Kind, live: Object, body: Object, how: WriteOptions, part: str, owners: Owners | None = None
    ) -> Object:
        name, given = live["metadata"]["name"], body["metadata"]
        if given.get("resourceVersion", live["metadata"]["resourceVersion"]) != live["metadata"]["resourceVersion"]:
            raise refusals.changed(
                kind,
                name,
                "the object has been modified; please apply your changes to the latest version and try again",
            )
        if given.get("uid", live["metadata"]["uid"]) != live["metadata"]["uid"]:
            raise refusals.changed(kind, name, f"Precondition failed: UID in precondition: {given['uid']}")
        if part == "status":
            new = copy.deepcopy(live)
            new["status"] = copy.deepcopy(body.get("status") or {})
        else:
            new = copy.deepcopy(body)
            if kind not in _WITHOUT_STATUS:
                new.pop("status", None)
                if "status" in live:
                    new["status"] = copy.deepcopy(live["status"])
            for key in _SYSTEM:
                new["metadata"].pop(key, None)
                if key in live["metadata"]:
                    new["metadata"][key] = live["metadata"][key]
        new["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        refuse_wrong(kind, new, live, strict=how.strict)
        new = with_defaults(new)
        if new.get("spec") != live.get("spec"):
            new["metadata"]["generation"] = live["metadata"]["generation"] + 1
        if owners is None:
            owners = owners_after(live, new, self._owners[kind, live["metadata"].get("namespace", ""), name], how.owner)
        return self._write(kind, new, owners, how)

    def _write(self, kind: Kind, body: Object, owners: Owners, how: WriteOptions) -> Object:
        key = (kind, body["metadata"].get("namespace", ""), body["metadata"]["name"])
        live = self._objects.get(key)
        if how.dry_run or body == live:
            return copy.deepcopy(body)
        if body["metadata"].get("deletionTimestamp") and not body["metadata"].get("finalizers"):
            self._remove(key)  # what it waited for is done
        else:
            self._put(key, body, owners)
        written = copy.deepcopy(body)
        self._collect()
        return written

    def _put(self, key: Key, body: Object, owners: Owners) -> None:
        before = self._objects.get(key)
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self._objects[key] = copy.deepcopy(body)
        self._owners[key] = owners
        self.changes.append(Change(self.version, key[0], self._objects[key], before))
        self.changed.notify_all()

    def _remove(self, key: Key) -> None:
        self.version += 1
        before = self._objects.pop(key)
        self._owners.pop(key)
        self.changes.append(Change(self.version, key[0], None, before))
        self.changed.notify_all()

    def _delete_owned(self, owner: Object) -> None:
        uid = owner["metadata"]["uid"]
        for key, body in list(self._objects.items()):
            references = body["metadata"].get("ownerReferences") or []
            if any(each["uid"] == uid for each in references) and len(references) == 1 and key in self._objects:
                self.delete(*key, {"propagationPolicy": "Foreground"})

    def _collect(self) -> None:
        """Take away what is owned by nothing that is there, and what is in no namespace that is there."""
        while True:
            lost = next(self._lost(), None)
            if lost is None:
                return
            self.delete(*lost)

    def _lost(self) -> Iterator[Key]:
        uids = {body["metadata"]["uid"] for body in self._objects.values()}
        for key, body in self._objects.items():
            metadata = body["metadata"]
            if metadata.get("deletionTimestamp"):
                continue
            references: list[dict[str, Any]] = metadata.get("ownerReferences") or []
            is_orphan = bool(references) and not any(each["uid"] in uids for each in references)
            is_homeless = bool(key[1]) and (kinds.NAMESPACE, "", key[1]) not in self._objects
            if is_orphan or is_homeless:
                yield key


def now() -> str:
    """The time as objects have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
