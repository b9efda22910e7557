"""What a request to the API server means."""

from dataclasses import dataclass

from cluster.kube.client.kinds import Kind


@dataclass(frozen=True)
class ApiRequest:
    """A verb on an object, on all of a kind, or on a part of an object."""

    verb: str
    kind: Kind
    namespace: str
    name: str
    part: str
    """A subresource: "status", "log"."""

    @property
    def resource(self) -> str:
        """As RBAC names it."""
        return f"{self.kind.plural}/{self.part}" if self.part else self.kind.plural
