"""Predictions of many files as parts of a fixed number of files each, in a folder that a killed command goes on with.

part-00000.csv ...     answers; readers may take all files of that name
_state/manifest.json   what is predicted, how, and a digest of each part's list: written when all lists are
_state/list/00000.json the paths of a part
_state/done/00000.json its counts: written after the part, which is complete from then on
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, cast

from cluster.errors import StorageError
from cluster.storage.store import Store
from data_pipeline.errors import DataError
from ray_jobs.prediction.rows import printable
from ray_jobs.prediction.tally import Tally

_MANIFEST = "_state/manifest.json"
_SHOWN = 3


@dataclass(frozen=True)
class PartFolder:
    """The parts of one list of files."""

    store: Store
    suffix: str
    """Of the parts: csv or jsonl."""
    count: int

    @classmethod
    def claim(cls, store: Store, suffix: str, how: dict[str, Any], paths: Iterable[str], size: int) -> "PartFolder":
        """Fix the list and how it is answered in an empty folder, or find the same fixed there before.

        Raises DataError with the difference where another list or way of answering is, or where the folder holds
        something else.
        """
        wanted = {**how, "part_size": size, "output_format": suffix}
        if store.exists(_MANIFEST):
            known, digests = _fixed(store)
            _refuse_another_way(store, known, wanted)
            _refuse_another_list(store, digests, _lists(paths, size))
            return cls(store, suffix, len(digests))
        if others := [name for name in store.list("") if name != "_state"]:
            raise DataError(f"--output {store.uri} holds {others[0]!r} and no parts; give a folder of its own")
        digests = list[str]()
        for number, part in enumerate(_lists(paths, size)):
            store.write(_list(number), _encoded(part))
            digests.append(_digest(part))
        if not digests:
            raise DataError("there is no image among the paths; give files, or folders that hold images")
        store.write(_MANIFEST, _encoded({"schema": 1, "how": wanted, "lists": digests}))
        return cls(store, suffix, len(digests))

    def missing(self) -> list[int]:
        """Numbers of the parts that are not complete."""
        done = set(self.store.list("_state/done"))
        return [number for number in range(self.count) if f"{number:05d}.json" not in done]

    def paths(self, number: int) -> list[str]:
        """The paths of a part, in order."""
        return _texts(self.store, _list(number))

    def write(self, number: int, rows: bytes, tally: Tally) -> None:
        """Store a part; whole or not at all, and the same again where two workers make the same."""
        self.store.write(f"part-{number:05d}.{self.suffix}", rows)
        self.store.write(f"_state/done/{number:05d}.json", _encoded(tally.to_json()))

    def tally(self) -> Tally:
        """What all complete parts come to."""
        total = Tally()
        for name in self.store.list("_state/done"):
            try:
                total.add(Tally.from_json(_json(self.store, f"_state/done/{name}")))
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise StorageError(
                    f"{self.store.uri}/_state/done/{name} is damaged ({error}); remove it, and its part is made again"
                ) from error
        return total


def _lists(paths: Iterable[str], size: int) -> Iterator[list[str]]:
    """The paths in lists of `size`, the last one perhaps shorter."""
    rest = iter(paths)
    while part := list(islice(rest, size)):
        yield part


def _list(number: int) -> str:
    return f"_state/list/{number:05d}.json"


def _json(store: Store, path: str) -> Any:
    try:
        return json.loads(store.read(path))
    except (ValueError, RecursionError) as error:
        raise _damaged(store, path, error) from error


def _texts(store: Store, path: str) -> list[str]:
    value = _json(store, path)
    try:
        return _all_text(value)
    except TypeError as error:
        raise _damaged(store, path, error) from error


def _all_text(value: Any) -> list[str]:
    """The list of texts that a value is. Raises TypeError for anything else."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in cast("list[object]", value)):
        raise TypeError("it holds no list of texts")
    return cast("list[str]", value)


def _damaged(store: Store, path: str, error: Exception) -> StorageError:
    return StorageError(f"{store.uri}/{path} is damaged ({error}); remove the folder, and begin again")


def _fixed(store: Store) -> tuple[dict[str, Any], list[str]]:
    """How is answered, and digests of the parts' lists."""
    try:
        manifest = _json(store, _MANIFEST)
        if manifest["schema"] != 1:
            raise DataError(
                f"{store.uri}/{_MANIFEST} has schema {manifest['schema']!r}, and this version reads 1; use that which "
                "wrote it, or another folder"
            )
        return dict(manifest["how"]), _all_text(manifest["lists"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(store, _MANIFEST, error) from error


def _encoded(value: Any) -> bytes:
    """ASCII, which also holds names that are not UTF-8."""
    return (json.dumps(value) + "\n").encode()


def _digest(part: list[str]) -> str:
    return hashlib.sha256(_encoded(part)).hexdigest()


def _refuse_another_way(store: Store, known: dict[str, Any], wanted: dict[str, Any]) -> None:
    different = [name for name in {**known, **wanted} if known.get(name) != wanted.get(name)]
    if different:
        differences = "\n".join(f"{name} was {known.get(name)!r}, and is {wanted.get(name)!r}" for name in different)
        raise DataError(f"--output {store.uri} holds parts of another prediction:\n{differences}\ngive another folder")


def _refuse_another_list(store: Store, digests: list[str], lists: Iterator[list[str]]) -> None:
    """Only where lists differ are all that follow in memory at once, to say how."""
    none: list[str] = []
    number, part = 0, next(lists, none)
    while number < len(digests) and _digest(part) == digests[number]:
        number, part = number + 1, next(lists, none)
    if number == len(digests) and not part:
        return
    before = Counter(chain.from_iterable(_texts(store, _list(each)) for each in range(number, len(digests))))
    now = Counter(chain(part, chain.from_iterable(lists)))
    differences = [*_named("not listed then", now - before), *_named("no longer listed", before - now)]
    raise DataError(
        f"--output {store.uri} holds parts of another list of files:\n"
        + "\n".join(differences or ["the same files in another order"])
        + "\ngive another folder, or the files of before"
    )


def _named(what: str, paths: Counter[str]) -> list[str]:
    if not paths:
        return []
    shown = ", ".join(printable(path) for path in islice(paths, _SHOWN))
    return [f"{what}: {paths.total()}, such as {shown}"]
