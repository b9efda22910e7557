"""Ray's own client of its Jobs API, with time limits, patience and errors that a person can act on."""

import http.client
import logging
import time
from collections.abc import Mapping
from typing import Any, NoReturn, cast
from urllib.parse import urlsplit

import ray
import requests
from ray.dashboard.modules.dashboard_sdk import SubmissionClient
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from cluster.errors import NoSuchObjectError, SubmissionError, TargetUnreachableError
from cluster.jobs_api import token as ray_token

_CONNECT_S = 5.0
_ANSWER_S = 60.0
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0
_FIRST_CONTACT_S = 3.0
_BUSY = {429, 502, 503, 504}
"""What a server or a proxy before it answers when another try may find it."""
_NO_AGENT = "No available agent"
"""In the answer of a head node that has only just started."""


class RayJobsClient(JobSubmissionClient):
    """Speaks only to the address that was given: not to RAY_ADDRESS, and not where a server points to.

    Every call tries again through broken connections and restarts of the head's server for `patience_s`, the first
    contact for a few seconds only. Raises SubmissionError and TargetUnreachableError.
    """

    def __init__(self, address: str, environment: Mapping[str, str], patience_s: float) -> None:
        check_address(address)
        for noisy in ("dashboard_sdk", "job.sdk"):
            logging.getLogger(f"ray.dashboard.modules.{noisy}").setLevel(logging.WARNING)
        logging.getLogger("ray._private.runtime_env.packaging").setLevel(logging.WARNING)
        self.address = address.rstrip("/")
        self._patience_s = _FIRST_CONTACT_S
        try:
            # Not JobSubmissionClient's own: it lets RAY_ADDRESS win over the address that it is given.
            # The log's stream does not read REQUESTS_CA_BUNDLE by itself, as all other requests do.
            SubmissionClient.__init__(
                self,
                address=self.address,
                headers=ray_token.token_headers(environment),
                verify=environment.get("REQUESTS_CA_BUNDLE") or True,
            )
        except FileNotFoundError as error:
            raise SubmissionError(f"REQUESTS_CA_BUNDLE: {error}; name a file or folder of certificates") from error
        except AuthenticationError as error:
            raise SubmissionError(
                f"{self.address}: RAY_AUTH_MODE=token, and there is no token; {ray_token.HOW_TO_GIVE_IT}"
            ) from error
        self._ssl_context = self._ssl_context or True  # aiohttp's word for its default; it warns of Ray's None
        self.server_version = self._version()
        self._patience_s = patience_s

    def check_version(self) -> None:
        """Raise SubmissionError unless the cluster has the Ray that this program is built for."""
        if self.server_version != ray.__version__:
            raise SubmissionError(
                f"{self.address} runs Ray {self.server_version}, and this program needs Ray {ray.__version__} there as "
                "well as here; use an image with that version"
            )

    def _version(self) -> str:
        response = self._do_request("GET", "/api/version")
        try:
            version = cast("dict[str, object]", response.json())["ray_version"] if response.ok else None
        except (ValueError, KeyError, TypeError):
            version = None
        if not isinstance(version, str):
            raise SubmissionError(
                f"{self.address} answers, but not as a Ray does (HTTP {response.status_code} for /api/version); give "
                "the address of Ray's dashboard, http://HOST:8265 unless set otherwise"
            )
        return version

    def _do_request(
        self,
        method: str,
        endpoint: str,
        *,
        data: bytes | None = None,
        json_data: dict[str, Any] | None = None,
        **_: object,
    ) -> requests.Response:
        """A request and its answer, through what passes by itself.

        A submission is safe to send twice: its id is ours, and Ray takes an id once.
        """
        deadline, pause = time.monotonic() + self._patience_s, _FIRST_PAUSE_S
        while True:
            failure = self._attempt(method, endpoint, data, json_data)
            if isinstance(failure, requests.Response):
                return failure
            if time.monotonic() + pause > deadline:
                raise TargetUnreachableError(
                    f"{self.address}: no Ray answers there ({failure}); check the address, that the head node runs, "
                    "and that this machine can reach it (from outside Kubernetes: kubectl port-forward)"
                )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _attempt(
        self, method: str, endpoint: str, data: bytes | None, json_data: dict[str, Any] | None
    ) -> requests.Response | str:
        """An answer, or why there is none yet."""
        try:
            limits = (_CONNECT_S, _ANSWER_S)
            answered: object = super()._do_request(  # pyright: ignore[reportUnknownVariableType]
                method, endpoint, data=data, json_data=json_data, timeout=limits, allow_redirects=False
            )
            response = cast("requests.Response", answered)
        except AuthenticationError as error:
            raise SubmissionError(
                f"{self.address} does not accept the token, or the lack of one; {ray_token.HOW_TO_GIVE_IT}"
            ) from error
        except requests.exceptions.SSLError as error:
            raise SubmissionError(
                f"{self.address}: the connection is not to be trusted ({_innermost(error)}); name the authority that "
                "signed its certificate in REQUESTS_CA_BUNDLE"
            ) from error
        except requests.exceptions.InvalidSchema as error:
            raise SubmissionError(f"{self.address}: {error}") from error
        except requests.exceptions.RequestException as error:
            cause = _innermost(error)
            if isinstance(cause, http.client.BadStatusLine) and not isinstance(cause, http.client.RemoteDisconnected):
                raise SubmissionError(
                    f"{self.address} answers, but does not speak HTTP; give the port of Ray's dashboard, 8265 unless "
                    "set otherwise"
                ) from error
            return f"{type(cause).__name__}: {cause}"
        if response.is_redirect:
            raise SubmissionError(
                f"{self.address} points to {response.headers.get('Location')}; give that address if it is the Ray you "
                "mean"
            )
        wrong = response.status_code >= 500 and (method == "GET" or _NO_AGENT in response.text)
        if wrong or response.status_code in _BUSY:
            return f"HTTP {response.status_code} {response.reason}"
        return response

    def _raise_error(self, r: requests.Response) -> NoReturn:
        lines = [line for line in r.text.strip().splitlines() if line.strip()]
        message = lines[-1].strip()[:500] if lines else r.reason
        if r.status_code == 404:
            raise NoSuchObjectError(f"{self.address}: {message}")
        raise SubmissionError(f"{self.address} refuses: {message} (HTTP {r.status_code})")


def check_address(address: str) -> None:
    """Raise SubmissionError unless this is an address of a Ray Jobs API, without secrets in it."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise SubmissionError(f"cluster.address={address}: {error}; use http://HOST:8265") from error
    if parts.username is not None or parts.password is not None:
        # The address itself is not shown: it holds a secret.
        raise SubmissionError(
            f"cluster.address names a user or password, which others could read; {ray_token.HOW_TO_GIVE_IT}"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or port == 0:
        raise SubmissionError(f"cluster.address={address}: is no address of a Ray Jobs API; use http://HOST:8265")


def _innermost(error: BaseException) -> BaseException:
    """What happened, below the layers that report it."""
    while True:
        reason = getattr(error, "reason", None)
        below = [each for each in (reason, *error.args[:2], error.__cause__) if isinstance(each, BaseException)]
        if not below:
            return error
        error = below[0]
