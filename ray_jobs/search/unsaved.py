"""What Ray Tune must not save: its state is disposable here, and a search is made again from its trials' records."""

from typing import Any, Self


class Unsaved:
    """Pickled by Tune without anything in it, and never copied."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self
