"""What an API server's refusal means for a person: one line with value, rule and remedy, and the error to raise."""

import json
import re
from dataclasses import dataclass
from typing import Any, cast

from cluster.errors import NoSuchObjectError, ObjectChangedError, SubmissionError
from cluster.kube.client.kinds import Kind

_LONGEST = 2000
"""Characters; a webhook may answer with pages."""


@dataclass(frozen=True)
class Status:
    """A refusal as the server has it."""

    code: int
    reason: str
    message: str
    """In one line."""
    details: dict[str, Any]
    """Empty where the answer is no Status of Kubernetes, as for a path that is not served."""
    retry_after_s: float | None = None
    """When the server wants to be asked again."""

    @property
    def is_passing(self) -> bool:
        """Whether another try may be answered: too many requests, or the server is not well."""
        return self.code in (408, 429) or (self.code >= 500 and self.code not in (501, 505))

    @property
    def is_expired(self) -> bool:
        """Whether what was asked for is no longer known, and all is to be listed again."""
        return self.code == 410 or self.reason in ("Expired", "Gone")

    @property
    def is_about_an_object(self) -> bool:
        """Whether a 404 is about an object, and not about a path that nobody serves."""
        return bool(self.details.get("name"))


@dataclass(frozen=True)
class Attempt:
    """What was asked for."""

    verb: str
    """As RBAC has it: get, list, create, update, patch, delete."""
    kind: Kind
    namespace: str = ""
    name: str = ""

    @property
    def words(self) -> str:
        """ "create RayJob "night" in namespace team-a"."""
        named = f" {self.name!r}" if self.name else ""
        return f"{self.verb} {self.kind.name}{named}{f' in namespace {self.namespace}' if self.namespace else ''}"

    @property
    def resource(self) -> str:
        """As a Role names it."""
        group = self.kind.api_version.rpartition("/")[0]
        return f"{self.kind.plural}.{group}" if group else self.kind.plural


def status_of(code: int, text: str, retry_after: str = "") -> Status:
    """Read a refusal; what is no Status (a proxy's page) keeps its first words."""
    try:
        body: Any = json.loads(text)
    except ValueError:
        body = None
    wait_s = float(retry_after) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", retry_after) else None
    if not isinstance(body, dict) or cast("dict[str, Any]", body).get("kind") != "Status":
        return Status(code, "", one_line(text)[:200], {}, wait_s)
    given = cast("dict[str, Any]", body)
    own_code, details = given.get("code"), given.get("details")
    return Status(
        own_code if isinstance(own_code, int) else code,
        str(given.get("reason") or ""),
        one_line(str(given.get("message") or given.get("reason") or "no reason given")),
        cast("dict[str, Any]", details) if isinstance(details, dict) else {},
        wait_s,
    )


def error_of(status: Status, attempt: Attempt, identity: str) -> SubmissionError:
    """The error that a refusal is, other than for what nobody serves. `identity`: who asked."""
    match status.code:
        case 404 if attempt.kind.name != "Namespace" and status.details.get("kind") == "namespaces":
            return NoSuchObjectError(
                f"{attempt.words}: there is no namespace {status.details.get('name')!r}; create it "
                f"(kubectl create namespace {status.details.get('name')}), or name another"
            )
        case 404:
            return NoSuchObjectError(f"{attempt.words}: there is none")
        case 409:
            return ObjectChangedError(f"{attempt.words}: {status.message}")
        case 403 if " cannot " in status.message:
            return SubmissionError(
                f"{attempt.words} is not allowed: {status.message}; ask for a Role with verb {attempt.verb} on "
                f"{attempt.resource}"
            )
        case 401:
            return SubmissionError(
                f"{attempt.words}: the API server does not accept the credentials of {identity}; log in again, or name "
                "another context with --kube-context"
            )
        case _:
            return SubmissionError(f"{attempt.words}: refused with {status.code}: {status.message}")


def one_line(text: str) -> str:
    """Text without line breaks, cut where it gets too long."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} [{len(line) - _LONGEST} more characters]"
