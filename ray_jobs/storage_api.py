"""The commands that look at what storage holds as functions: runs and searches. Callers have them from `ray_jobs.api`.

Importing this module is cheap: each function imports what it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_jobs.run.listing import Listing, RunRow, RunView
    from ray_jobs.search.listing import SearchRow


def runs_list(*, storage_root: str = "outputs", limit: int = 200) -> Listing[RunRow]:
    """The runs under a storage root; what is damaged is a row. At most `limit` are read, the first ones by name."""
    from ray_jobs.run.listing import list_runs

    return list_runs(storage_root, limit)


def runs_show(run: str, *, storage_root: str = "outputs") -> RunView:
    """What is known of a run: a path, a URI, or a name under the storage root."""
    from ray_jobs.run.listing import view_run

    return view_run(run, storage_root)


def searches_list(*, storage_root: str = "outputs", limit: int = 200) -> Listing[SearchRow]:
    """The searches under a storage root; what is damaged is a row. At most `limit` are read, the first ones by name."""
    from ray_jobs.search.listing import list_searches

    return list_searches(storage_root, limit)
