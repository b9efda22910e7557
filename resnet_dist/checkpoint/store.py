"""What checkpoints and records need of storage."""

from typing import Protocol

Claim = tuple[int, str]
"""Lease generation and token of a writer."""


class CheckpointStore(Protocol):
    """Whole files, each replaced at once or not at all. Paths are relative, with "/" between their parts."""

    def write(self, path: str, data: bytes) -> None:
        """Create or replace a file."""
        ...

    def read(self, path: str) -> bytes:
        """The bytes of a file."""
        ...

    def read_or_none(self, path: str) -> bytes | None:
        """The bytes of a file, None where there is no such file."""
        ...

    def list(self, path: str) -> list[str]:
        """Names in a folder, none where it is absent."""
        ...

    def delete(self, path: str) -> None:
        """Remove a file or a folder with its content."""
        ...
