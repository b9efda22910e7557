"""Requests to the API server: which object and verb they mean, who asks, and what goes wrong on the way."""

import contextlib
import json
import re
import socket
import ssl
import struct
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from cluster.kube.client.kinds import NAMESPACE, Kind, Object
from tests.kube_server import refusals
from tests.kube_server.discovery import discovered
from tests.kube_server.faults import Fault
from tests.kube_server.refusals import Refusal
from tests.kube_server.request import ApiRequest
from tests.kube_server.selectors import selector
from tests.kube_server.store import WriteOptions
from tests.kube_server.streams import Disconnected, send_log, send_watch

if TYPE_CHECKING:
    from tests.kube_server.server import KubeServer

_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_MERGE, _APPLY = "application/merge-patch+json", ("application/apply-patch+yaml", "application/apply-patch+json")


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60

    def setup(self) -> None:
        """A connection begins."""
        super().setup()
        self.kube: KubeServer = self.server.kube  # type: ignore[attr-defined]
        self.kube.opened(self.connection)

    def finish(self) -> None:
        """A connection ends."""
        self.kube.closed(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        """Any request: the verbs differ in what is request."""
        if self.kube.stopping.is_set():
            self.close_connection = True
            return
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length) if length else b""
        address = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(address.query, keep_blank_values=True).items()}
        path, verb = unquote(address.path), _VERBS[self.command]
        request = self._request_of(path, query)
        verb = request.verb if request else verb
        self.kube.requests.append((verb, self.path))
        fault = self.kube.faults.next(verb, self.path)
        with contextlib.suppress(Disconnected, BrokenPipeError, ConnectionResetError, ssl.SSLError):
            try:
                self._disturb(fault)
                self._answer(path, request, query, raw, fault)
            except Refusal as refused:
                self._send(refused.code, refused.status, fault, refused.retry_after)
            return
        self.close_connection = True

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _request_of(self, path: str, query: dict[str, str]) -> ApiRequest | None:
        match = re.fullmatch(
            r"/(?:api/(v1)|apis/([^/]+/[^/]+))(?:/namespaces/([^/]+)(?=/[^/]))?/([^/]+)(?:/([^/]+))?(?:/([^/]+))?", path
        )
        if match is None:
            return None
        core, version, namespace, plural, name, part = match.groups()
        if namespace and plural in ("status", "finalize"):  # of the namespace itself
            plural, name, part, namespace = "namespaces", namespace, plural, None
        kind = next(
            (each for each in self.kube.store.kinds if (each.api_version, each.plural) == (core or version, plural)),
            None,
        )
        if kind is None or (namespace and not kind.namespaced):
            return None
        verb = _VERBS[self.command]
        if verb == "get" and not name:
            verb = "watch" if query.get("watch") in ("true", "1") else "list"
        return ApiRequest(verb, kind, namespace or "", name or "", part or "")

    def _answer(
        self, path: str, request: ApiRequest | None, query: dict[str, str], raw: bytes, fault: Fault | None
    ) -> None:
        user = self._user()
        body = self._body(raw)
        if path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" and self.command == "POST":
            what = body["spec"]["resourceAttributes"]
            resource = "/".join(filter(None, (what["resource"], what.get("subresource"))))
            body["status"] = {"allowed": self.kube.is_allowed(what["verb"], resource, what.get("namespace", ""))}
            return self._send(201, body, fault)
        if request is None:
            document = discovered(path, self.kube.store.kinds) if self.command == "GET" else None
            if document is None:
                return self._send(404, None, fault)
            return self._send(200, document, fault)
        # To RBAC a Namespace lies in itself.
        within = request.name if request.kind == NAMESPACE else request.namespace
        if not self.kube.is_allowed(request.verb, request.resource, within):
            raise refusals.forbidden(request.kind, request.name, request.verb, request.namespace, user)
        if request.part == "log":
            return send_log(self, request, query, fault)
        if request.verb == "watch":
            return send_watch(self, request, query, fault)
        if request.verb == "list":
            return self._send(200, self._list(request, query), fault)
        code, answer = self._written(request, query, body)
        return self._send(code, answer, fault)

    def _user(self) -> str:
        given = self.headers.get("Authorization", "")
        scheme, _, token = given.partition(" ")
        if scheme.lower() != "bearer" or token.strip() not in self.kube.tokens:
            raise refusals.unauthorized()
        return self.kube.tokens[token.strip()]

    def _body(self, raw: bytes) -> Object:
        if not raw:
            return {}
        try:
            body = json.loads(raw)
        except ValueError as error:
            raise refusals.bad_request(f"couldn't get version/kind; json parse error: {error}") from error
        if not isinstance(body, dict):
            raise refusals.bad_request("the body is no object")
        return body

    def _written(self, request: ApiRequest, query: dict[str, str], body: Object) -> tuple[int, Object]:
        store, kind, space, name = self.kube.store, request.kind, request.namespace, request.name
        if query.get("dryRun", "All") != "All":
            raise refusals.bad_request(f'dryRun: Unsupported value: {query["dryRun"]!r}: supported values: "All"')
        how = WriteOptions(
            dry_run="dryRun" in query or "dryRun" in body,
            strict=query.get("fieldValidation") == "Strict",
            manager=query.get("fieldManager") or self.headers.get("User-Agent", "unknown").partition("/")[0],
            force=query.get("force") == "true",
        )
        match request.verb:
            case "get":
                return 200, store.get(kind, space, name)
            case "create" if not name:
                return 201, store.create(kind, space, body, how)
            case "update":
                return 200, store.replace(kind, space, name, body, how, request.part)
            case "patch":
                return self._patched(request, body, how)
            case "delete" if name:
                gone = store.delete(kind, space, name, body, dry_run=how.dry_run)
                return 200, gone
            case _:
                message = "the server does not allow this method on the requested resource"
                raise Refusal(405, "MethodNotAllowed", message)

    def _patched(self, request: ApiRequest, body: Object, how: WriteOptions) -> tuple[int, Object]:
        store, kind, space, name = self.kube.store, request.kind, request.namespace, request.name
        content = (self.headers.get("Content-Type") or "").partition(";")[0]
        if content == _MERGE:
            return 200, store.patch(kind, space, name, body, how, request.part)
        if content not in _APPLY:
            accepted = ", ".join((_MERGE, *_APPLY))
            message = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
            raise Refusal(415, "UnsupportedMediaType", message)
        if how.manager == "unknown" or "fieldManager" not in self.path:
            raise refusals.bad_request(
                "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for apply patch"
            )
        if (body.get("metadata") or {}).get("name") != name:
            raise refusals.bad_request(f"the name in the body is not that of the URL ({name})")
        with store.changed:
            is_new = not any(each["metadata"]["name"] == name for each in store.objects(kind, space))
            if is_new and not self.kube.is_allowed("create", kind.plural, space):
                raise refusals.forbidden(kind, name, "create", space, self._user())
            return 201 if is_new else 200, store.apply(kind, space, name, body, how)

    def _list(self, request: ApiRequest, query: dict[str, str]) -> Object:
        store, kind = self.kube.store, request.kind
        matches = selector(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        with store.changed:
            start, version = 0, store.version
            if token := query.get("continue"):
                version, start = (int(part) for part in token.split("."))
                if version < store.oldest:
                    raise Refusal(
                        410,
                        "Expired",
                        "The provided continue parameter is too old to display a consistent list result.",
                    )
            found = self._at(kind, request.namespace, matches, version)
            limit = int(query.get("limit") or 0) or len(found)
            page, rest = found[start : start + limit], max(len(found) - start - limit, 0)
            meta: Object = {"resourceVersion": str(version)}
            if rest:
                meta |= {"continue": f"{version}.{start + limit}", "remainingItemCount": rest}
        if "/" not in kind.api_version:  # the items of typed lists do not say what they are
            page = [{key: value for key, value in each.items() if key not in ("kind", "apiVersion")} for each in page]
        return {"apiVersion": kind.api_version, "kind": f"{kind.name}List", "metadata": meta, "items": page}

    def _at(self, kind: Kind, namespace: str, matches: Any, version: int) -> list[Object]:
        """What there was at a version."""
        found = {
            (each["metadata"].get("namespace"), each["metadata"]["name"]): each
            for each in self.kube.store.objects(kind)
        }
        for change in reversed(list(self.kube.store.after(version))):
            if change.kind == kind:
                of = (change.body or change.before or {})["metadata"]
                key = (of.get("namespace"), of["name"])
                found.pop(key, None)
                if change.before is not None:
                    found[key] = change.before
        return [
            body for key, body in sorted(found.items(), key=lambda item: (item[0][0] or "", item[0][1]))
            if (not namespace or key[0] == namespace) and matches(body)
        ]  # fmt: skip

    def _disturb(self, fault: Fault | None) -> None:
        match fault and fault.trouble:
            case "answer":
                raise Refusal(fault.code, "ServiceUnavailable", fault.message, retry_after=fault.retry_after)
            case "reset":
                self.reset()
            case "page":
                page = b"<html><body>" + fault.message.encode() + b"</body></html>"
                self.send_response(fault.code)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)
                raise Disconnected
            case _:
                return

    def _send(
        self, code: int, body: Object | None, fault: Fault | None = None, retry_after: float | None = None
    ) -> None:
        """Answer; no body: as for a path that nobody serves."""
        if fault and fault.trouble == "lost":
            self.reset()
        if fault and fault.trouble == "silent":
            self.wait_for_leaving()
        raw = b"404 page not found\n" if body is None else json.dumps(body).encode()
        head = f"HTTP/1.1 {code} X\r\nContent-Type: {'text/plain' if body is None else 'application/json'}\r\n"
        if retry_after is not None:
            head += f"Retry-After: {retry_after:g}\r\n"
        sent = raw[: len(raw) // 2] if fault and fault.trouble == "short" else raw
        self.wfile.write(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + sent)
        if sent is not raw:
            raise Disconnected

    def reset(self) -> None:
        """End the connection as a machine does that is switched off and on."""
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        raise Disconnected

    def wait_for_leaving(self) -> None:
        """Say nothing for as long as the client keeps the connection."""
        self.connection.settimeout(0.05)
        while not self.kube.stopping.is_set():
            try:
                if not self.connection.recv(1):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        raise Disconnected
