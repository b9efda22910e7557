"""Whether all nodes of a running Ray see one storage."""

# ray carries few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import secrets
from contextlib import suppress

from cluster.errors import StorageError
from cluster.health.marks import Mark, name_of, outsiders, unseen
from cluster.health.preflight import Check, some
from cluster.storage.store import Store
from ray_jobs.doctor.visit import DRIVER, Visit


class StorageMarks:
    """The mark files of one check. `remove` deletes them, whatever happened before."""

    def __init__(self, root: str) -> None:
        self.root = Store.open(root).uri
        self.token = secrets.token_hex(8)
        self.here: Mark | None = None
        self.left: list[str] = []
        """Owners whose file may still exist."""

    def remove(self, visit: Visit) -> None:
        """Remove every file that may be left; a warning names a file that cannot be removed."""
        store = Store.open(self.root)
        for owner in self.left:
            try:
                store.delete(name_of(self.token, owner))
            except StorageError as error:
                visit.add(DRIVER, Check("storage root", "warning", f"left behind: {error}", "delete that file"))
        if self.here is not None:
            self.here.remove_folders()


def check_storage(visit: Visit, marks: StorageMarks) -> None:
    """Every node and this process write a file, and each looks for the files of all others."""
    root, token = marks.root, marks.token
    owners = {node: node.id for node in visit.nodes}
    remedy = "grant access, mount it on every node, or choose another --storage.root"
    failed: dict[str, str] = {}
    here = marks.here = Mark(root, token, "driver")
    marks.left = [*owners.values(), "driver"]
    try:
        here.write()
    except StorageError as error:
        failed[DRIVER] = str(error)
    wrote = visit.ask(
        "write to storage.root", lambda node, agent: agent.write_mark.remote(root, token, owners[node]), failed
    )
    names = {owners[node]: node.name for node in wrote} | ({} if DRIVER in failed else {"driver": DRIVER})
    seen = visit.ask(
        "read from storage.root",
        lambda _, agent: agent.unseen.remote(root, token, list(names)),
        failed,
        list(wrote),
    )
    blind: dict[str, dict[str, str]] = {node.name: each for node, each in seen.items()}
    if DRIVER not in failed:
        blind[DRIVER] = unseen(root, token, names)
    # A node that was lost in between is reported as lost, not here.
    blind = {
        name: {names[owner]: why for owner, why in each.items() if names[owner] in blind}
        for name, each in blind.items()
    }
    visit.ask("remove its file from storage.root", lambda _, agent: agent.remove_mark.remote(), failed, list(wrote))
    with suppress(StorageError):
        here.remove()
    visit.ask("remove its folder", lambda _, agent: agent.remove_folders.remote(), failed, list(wrote))
    marks.left = [owner for node, owner in owners.items() if node not in visit.nodes]

    apart = outsiders(blind)
    for name in blind:
        if name not in apart and name not in failed:
            text = f"{root}: written, read by all others and removed"
            visit.add(name, Check("storage root", "ok", text))
    local = "" if "://" in root else f"; {root} is a folder of each machine's own unless it is a mount"
    for name, others in apart.items():
        why = next((blind[name][other] for other in others if other in blind[name]), "")
        text = f"{root} is not what {some(others, 3)} has{f' ({why})' if why else ''}{local}"
        visit.add(name, Check("storage root", visit.status(name), text, remedy))
    for name, error in failed.items():
        if name not in apart:
            visit.add(name, Check("storage root", visit.status(name), error, remedy))
