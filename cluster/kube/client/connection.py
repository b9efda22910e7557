"""Requests to an API server: with credentials, with limits of time and size, again where the server is not well."""

# The client carries few types.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false

import json
import threading
import time
import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3.exceptions
from kubernetes.client.api_client import ApiClient
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from cluster.errors import SubmissionError
from cluster.kube.client.identity import Identity
from cluster.kube.client.kinds import Object
from cluster.kube.client.outage import BrokenError, Outage, Patience, RefusedError
from cluster.kube.client.refusal import one_line, status_of

_LARGEST = 64 * 2**20
"""Bytes of an answer; the server keeps no object of more than 2 MiB, and lists come in pages."""
_LONGEST_LINE = 8 * 2**20
_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")
_CERTAIN_TLS = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER")
"""What another try would meet again."""


@cache
def _warn_once() -> None:
    """Warn of a certificate that is not verified once for the process, and not for each request. Each change of the
    filters would make Python forget what it has said."""
    warnings.filterwarnings("once", category=urllib3.exceptions.InsecureRequestWarning)


@dataclass(frozen=True)
class Request:
    """One request, as often as it is sent."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Object | None = None
    content: str = "application/json"


class Connection:
    """An API server as one identity sees it. Any thread may use it."""

    def __init__(self, identity: Identity, patience: Patience) -> None:
        self.identity = identity
        self.patience = patience
        self._lock = threading.Lock()
        self._has_answered = False
        self._secrets: set[str] = set()
        self._client, self._generation = self._logged_in(), 0
        address = urlsplit(str(self._client.configuration.host))
        self.server = f"{address.scheme}://{address.hostname}{f':{address.port}' if address.port else ''}{address.path}"
        """Its address, without credentials."""

    def ask(self, request: Request) -> Object:
        """The answer, through outages. A request may be carried out more than once. Raises RefusedError for what the
        server refuses, TargetUnreachableError when it has not answered for long."""
        outage = self.outage()
        while True:
            try:
                return self._once(request)
            except (RefusedError, BrokenError) as error:
                outage.wait(error)

    @contextmanager
    def stream(self, request: Request, silence_s: float) -> Generator[Iterator[bytes]]:
        """An answer's lines as they come, without their ends. Tries once: raises RefusedError, and BrokenError when
        the stream breaks or is silent for too long; what it had of its last line is dropped then."""
        with self._opened(request, silence_s) as response:
            yield self._lines(request, response)

    def outage(self) -> Outage:
        """To be told of tries that fail, from now on."""
        patience = self.patience
        limit_s = patience.outage_s if self._has_answered else min(patience.unknown_s, patience.outage_s)
        return Outage(self.server, patience, limit_s)

    def _once(self, request: Request) -> Object:
        with self._opened(request, self.patience.read_s) as response:
            raw = self._read(request, response)
        try:
            answer: Any = json.loads(raw)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise SubmissionError(
                f"{self.server} answers {request.path} with no object of Kubernetes; is it an API server's address?"
            )
        return answer

    def _lines(self, request: Request, response: Any) -> Generator[bytes]:
        rest = b""
        while True:
            with self._explained(request):
                # Whatever has come, and not all that is asked for: the next line may take hours.
                chunk = response.read1(2**16)
            if not chunk:
                break
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole
            if len(rest) > _LONGEST_LINE:
                raise SubmissionError(f"{self.server}: a line of {request.path} has over {_LONGEST_LINE} bytes")
        if rest:
            yield rest

    @contextmanager
    def _opened(self, request: Request, silence_s: float) -> Generator[Any]:
        """An answer of status 2xx, to be read. Reads the credentials again, once, where they are not accepted."""
        response, generation = self._sent(request, silence_s)
        if response.status == 401:
            response.close()
            self._log_in_again(generation)
            response, _ = self._sent(request, silence_s)
        try:
            self._has_answered = True
            if not 200 <= response.status < 300:
                raw = b""
                with suppress(BrokenError):
                    raw = self._read(request, response)
                text = self._redacted(raw.decode(errors="replace"))
                raise RefusedError(status_of(response.status, text, response.headers.get("Retry-After", "")))
            yield response
        finally:
            response.close()  # one that was read to its end is back in the pool already, and stays there

    def _sent(self, request: Request, silence_s: float) -> tuple[Any, int]:
        with self._lock:
            client, generation = self._client, self._generation
        path = f"{request.path}?{urlencode(request.query)}" if request.query else request.path
        headers = {"Accept": "application/json", "Content-Type": request.content}
        try:
            serialized = client.param_serialize(
                request.method, path, query_params=[], header_params=headers, auth_settings=["BearerToken"]
            )
        except (ConfigException, OSError) as error:
            raise BrokenError(
                f"the credentials of {self.identity.words} cannot be read ({type(error).__name__})"
            ) from None
        method, url, headers = serialized[:3]
        given = str(headers.get("authorization", ""))
        self._secrets |= {given, given.partition(" ")[2]} - {""}
        with self._explained(request):
            timeout = (self.patience.connect_s, silence_s)
            answer = client.call_api(method, url, headers, request.body, _request_timeout=timeout)
            return answer.response, generation

    @contextmanager
    def _explained(self, request: Request) -> Generator[None]:
        """Errors of the network as ours."""
        try:
            yield
        except ApiException as error:  # of TLS; others are ours to raise
            why = self._redacted(one_line(str(error.reason)))
            if any(word in why for word in _CERTAIN_TLS):
                raise SubmissionError(
                    f"{self.server}: no secure connection: {why}; see server and certificate-authority in "
                    f"{self.identity.words}"
                ) from None
            raise BrokenError(why) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise BrokenError(f"{type(error).__name__} at {request.method} {request.path}") from None

    def _read(self, request: Request, response: Any) -> bytes:
        ends = time.monotonic() + 4 * self.patience.read_s  # a byte now and then would keep us waiting without end
        parts: list[bytes] = []
        size = 0
        with self._explained(request):
            while chunk := response.read1(2**20):
                parts.append(chunk)
                size += len(chunk)
                if size > _LARGEST:
                    raise SubmissionError(f"{self.server}: the answer to {request.path} has over {_LARGEST} bytes")
                if time.monotonic() > ends:
                    raise BrokenError(f"the answer to {request.path} does not end")
        return b"".join(parts)

    def _redacted(self, text: str) -> str:
        """Text of others, without our credentials in it."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "[redacted]")
        return text

    def _logged_in(self) -> ApiClient:
        configuration: Any = self.identity.load()
        address = urlsplit(str(configuration.host))
        if address.scheme != "https" and configuration.api_key and address.hostname not in _THIS_MACHINE:
            raise SubmissionError(
                f"http://{address.hostname}: {self.identity.words} would send its token where anybody can read it; "
                "name the server with https"
            )
        if not configuration.verify_ssl:
            _warn_once()
        configuration.retries = False  # they are ours to make: the client would repeat what may not be
        configuration.keep_alive = True
        return ApiClient(configuration)

    def _log_in_again(self, generation: int) -> None:
        with self._lock:
            if self._generation == generation:  # else another thread has just done it
                self._client, self._generation = self._logged_in(), generation + 1
