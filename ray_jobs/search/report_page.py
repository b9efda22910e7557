"""`resnet-dist report`: renders a search's search.json to one HTML file beside it."""

from typing import Any

from cluster.storage.store import Store
from ray_jobs.errors import ConfigError
from ray_jobs.report.search_page import render_search
from ray_jobs.run.argument import hint_at_folder, names_a_place
from ray_jobs.run.directory import RunDirectory
from ray_jobs.search.records import SEARCHES
from resnet_dist.errors import ReportError, RunError
from resnet_dist.sealed_json import unsealed_if_sealed

_RECORD = "search.json"
_PAGE = "report/index.html"
_MAX_BYTES = 256_000_000


def run_report(target: str, storage_root: str) -> str:
    """Write report/index.html of a search: a path, a URI, or a bare name under the storage root; returns its place.

    Raises RunError where there is no search or its record cannot be used, ConfigError for a run, since only
    searches have reports, and where Plotly is not installed.
    """
    store = _find(target, storage_root)
    try:
        page = render_search(_read(store))
    except ReportError as error:
        raise ConfigError(str(error)) from error
    store.write(_PAGE, page.encode())
    return f"{store.uri}/{_PAGE}" if store.local_path is None else str(store.local_path / _PAGE)


def _find(target: str, storage_root: str) -> Store:
    is_place = names_a_place(target)
    store = Store.open(target) if is_place else Store.open(storage_root).child(f"{SEARCHES}/{target}")
    if store.exists(_RECORD):
        return store
    run = RunDirectory(store) if is_place else RunDirectory.named(storage_root, target)
    if run.exists():
        raise ConfigError(f"{target!r} is a run, and only searches have reports; give a search")
    names = [] if is_place else Store.open(storage_root).list(SEARCHES)
    known = f"; searches there: {', '.join(names)}" if names else ""
    hint = "" if is_place else hint_at_folder(target)
    raise RunError(f"{target!r} is no search: {store.uri} has no {_RECORD}{known}{hint}")


def _read(store: Store) -> dict[str, Any]:
    place, data = f"{store.uri}/{_RECORD}", store.read(_RECORD)
    if len(data) > _MAX_BYTES:
        raise RunError(f"{place} has {len(data)} bytes, at most {_MAX_BYTES} are read; it is no record of ours")
    try:
        return unsealed_if_sealed(data)
    except ValueError as error:
        raise RunError(f"{place} is damaged ({error}); start the search again to write it anew") from error
