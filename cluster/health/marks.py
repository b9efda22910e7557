"""Whether several machines see one storage: each machine writes a mark and looks for the marks of all others."""

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from cluster.errors import StorageError
from cluster.storage.store import Store

_PREFIX = ".doctor-"
_SEEN_WITHIN_S = 5.0
"""A network file system may show a file that another machine wrote some seconds late."""
_POLL_S = 0.25


class Mark:
    """A small file at a storage root. `token`: random, so that no mark of another command is mistaken for this one."""

    def __init__(self, root: str, token: str, owner: str) -> None:
        self._store = Store.open(root)
        self._token = token
        self._name = name_of(token, owner)
        self._made: list[Path] = []

    def write(self) -> None:
        """Write the mark. Raises StorageError."""
        self._made = _absent(self._store.local_path)
        self._store.write(self._name, self._token.encode())

    def remove(self) -> None:
        """Remove the mark. Raises StorageError."""
        self._store.delete(self._name)

    def remove_folders(self) -> None:
        """Remove the folders that `write` made, once all marks are gone; folders that are in use now stay."""
        for folder in self._made:
            try:
                folder.rmdir()
            except OSError:
                break


def name_of(token: str, owner: str) -> str:
    """The mark's file."""
    return f"{_PREFIX}{token}-{owner}"


def unseen(root: str, token: str, owners: Iterable[str]) -> dict[str, str]:
    """The owners whose marks cannot be read here within some seconds, and why."""
    store, missing = Store.open(root), dict.fromkeys(owners, "")
    until = time.monotonic() + _SEEN_WITHIN_S
    while missing:
        for owner in list(missing):
            try:
                if store.read(name_of(token, owner)) == token.encode():
                    del missing[owner]
                    continue
                missing[owner] = "it holds other bytes than were written"
            except StorageError as error:
                missing[owner] = str(error)
        if time.monotonic() >= until:
            break
        if missing:
            time.sleep(_POLL_S)
    return missing


def outsiders(unseen_by: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Machines outside the largest set of machines that see each other; for each, the machines it cannot share with.

    `unseen_by`: for each machine, the machines whose marks it does not see. If no set is larger than the others, all
    machines are outside.
    """
    blind = {name: set(others) for name, others in unseen_by.items()}
    apart = {
        name: [other for other in blind if other != name and (other in blind[name] or name in blind[other])]
        for name in blind
    }
    groups: list[list[str]] = []
    # Machines that miss few come first, so that one that misses many does not form a group with a few of them.
    for name in sorted(blind, key=lambda each: len(apart[each])):
        home = next((group for group in groups if not set(group) & set(apart[name])), None)
        if home is None:
            groups.append([name])
        else:
            home.append(name)
    sizes = sorted(map(len, groups), reverse=True)
    inside: set[str] = set()
    if sizes and (len(sizes) == 1 or sizes[0] > sizes[1]):
        inside = set(max(groups, key=len))
    return {name: others for name, others in apart.items() if name not in inside}


def _absent(folder: Path | None) -> list[Path]:
    """The folder and those above it that are not there, the deepest first."""
    if folder is None:
        return []
    return [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
