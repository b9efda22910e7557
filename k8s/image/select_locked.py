"""The part of a lock that something needs: `select_locked.py LOCK PYPROJECT ROOT...` prints it, hashes and all.

A root is a package of the lock, or `project[EXTRA,EXTRA]`: what the project needs with those of its extras;
`project[all]` has all of them that the lock has, `project[none]` none, and neither has the tools of development. Who
needs a package stands below it in the lock; nothing is resolved here.
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

_UNLOCKED = ("gpu-runtime",)
"""onnxruntime-gpu brings the files of onnxruntime: who wants it has it in its place."""


def required(project: str, extras: str) -> set[str]:
    """The packages that a pyproject.toml names for some of its extras. Raises SystemExit for an unknown extra."""
    table = tomllib.loads(project)["project"]
    optional: dict[str, list[str]] = table["optional-dependencies"]
    match extras:
        case "all":
            chosen = [each for each in optional if each not in _UNLOCKED]
        case "none":
            chosen = []
        case _:
            chosen = [each.strip() for each in extras.split(",")]
    unknown = [repr(each) for each in chosen if each not in optional]
    if unknown:
        raise SystemExit(f"{', '.join(unknown)}: no such extra; use all, none, or some of {','.join(optional)}")
    texts = [*table["dependencies"], *(text for each in chosen for text in optional[each])]
    return {_normal(re.split(r"[^A-Za-z0-9._-]", text)[0]) for text in texts}


def select(lock: str, roots: Iterable[str]) -> str:
    """The lines of the packages that `roots` need, they included. Raises SystemExit for a root that is not there."""
    entries = _entries(lock)
    needed = set(roots)
    missing = sorted(needed - entries.keys())
    if missing:
        raise SystemExit(f"{', '.join(missing)}: not in the lock")
    needed_by = {
        name: set(re.findall(r"^    # (?:via |  )(\S.*)$", text, re.MULTILINE)) for name, text in entries.items()
    }
    while more := {name for name in entries if needed_by[name] & needed} - needed:
        needed |= more
    return "".join(text for name, text in entries.items() if name in needed)


def _entries(lock: str) -> dict[str, str]:
    """Each package's lines, by its name; a package has several entries where Python's version decides."""
    entries: dict[str, str] = {}
    for text in re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE):
        found = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==", text)
        if found:
            entries[found[1]] = entries.get(found[1], "") + text
    return entries


def _normal(name: str) -> str:
    """A package's name as locks write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _main(lock: str, project: str, *roots: str) -> None:
    packages: set[str] = set()
    for root in roots:
        found = re.fullmatch(r"project\[(.*)\]", root)
        packages |= required(Path(project).read_text(encoding="utf-8"), found[1]) if found else {root}
    sys.stdout.write(select(Path(lock).read_text(encoding="utf-8"), packages))


if __name__ == "__main__":
    _main(*sys.argv[1:])
