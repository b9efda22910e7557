"""The part of a lock that something needs: `select_locked.py LOCK ROOT...` prints it, hashes and all.

A root is a package, or "runtime": what the project itself needs with all its extras, without the tools of development.
Who asked for a package stands below it in the lock; nothing is resolved here.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

RUNTIME = "resnet-dist (pyproject.toml)"


def select(lock: str, roots: Sequence[str]) -> str:
    """The lines of the packages that `roots` need, they included. Raises SystemExit for a root that is not there."""
    entries = _entries(lock)
    missing = [root for root in roots if root != "runtime" and root not in entries]
    if missing:
        raise SystemExit(f"{', '.join(missing)}: not in the lock")
    asked = {name: set(re.findall(r"^    # (?:via |  )(\S.*)$", text, re.MULTILINE)) for name, text in entries.items()}
    needed = {RUNTIME if root == "runtime" else root for root in roots}
    while True:
        more = {name for name in entries if asked[name] & needed} - needed
        if not more:
            return "".join(text for name, text in entries.items() if name in needed)
        needed |= more


def _entries(lock: str) -> dict[str, str]:
    """Each package's lines, by its name; a package has several entries where Python's version decides."""
    entries: dict[str, str] = {}
    for text in re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE):
        found = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==", text)
        if found:
            entries[found[1]] = entries.get(found[1], "") + text
    return entries


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    sys.stdout.write(select(text, sys.argv[2:]))
