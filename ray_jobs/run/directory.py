"""The files of a run under `storage.root` (runs/<name>/), and how a RUN argument finds it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from cluster.config import StorageConfig
from cluster.errors import StorageError
from cluster.storage.outage import Patience, Say, nobody_holds
from cluster.storage.store import Store, child_uri
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.identity import identity
from ray_jobs.job.preprocessing import preprocess_of
from ray_jobs.job.toml import print_config, read_job_text
from ray_jobs.run.argument import RUNS, hint_at_folder, names_a_place, root_and_name
from ray_jobs.run.records import CONFIG, DATASET, PREPROCESS, REMEDY, SEAL, SPLIT, Records
from ray_jobs.terminal.watcher import note
from resnet_dist.checkpoint.manifest import Manifest, Origin, best_manifest, name_of, newest_origin, stored_steps
from resnet_dist.checkpoint.progress import Progress, latest_progress
from resnet_dist.checkpoint.store import Claim
from resnet_dist.errors import RunError
from resnet_dist.plain_json import json_object
from resnet_dist.run_records import Record, Status, read_metrics
from resnet_dist.runtime.preprocess import Preprocess
from resnet_dist.sealed_json import json_bytes

if TYPE_CHECKING:
    # They know torch, which a machine that only fetches bundles or watches jobs does not have.
    from resnet_dist.checkpoint.contents import Checkpoint
    from resnet_dist.checkpoint.reading import Which

CHAIN = "chain.json"
"""In the folder of a chain's name: which runs it made, and which is the result."""
RESULT = "result.json"
_ALONE = "restore it, or choose another --name: the run is not sealed, so nothing else tells what it was trained as"
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunDataset:
    """What dataset.json says of the images that the run was first started with."""

    classes: tuple[str, ...]
    """In the order of the labels."""
    fingerprint: str


class RunDirectory:
    """Reads and writes the records of one run, and reads its checkpoints and metrics.

    Of those it believes what was stored under a claim in the history of the run's lease.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.records = Records(store, self._newest_origin)
        """What the run is, and its seal."""

    @classmethod
    def named(cls, storage_root: str, name: str) -> "RunDirectory":
        """The run of that name under a storage root."""
        return cls(Store.open(storage_root).child(f"{RUNS}/{name}"))

    @classmethod
    def find(cls, run: str, storage_root: str) -> "RunDirectory":
        """A RUN argument: a path, a URI, or a bare name under the storage root. Raises RunError where there is none."""
        is_place = names_a_place(run)
        found = cls(Store.open(run)) if is_place else cls.named(storage_root, run)
        found = found.at_start(StorageConfig().outage_s, note)
        if not found.exists() and found.store.exists(SEAL):
            raise RunError(f"{found.uri} has no {CONFIG}; {REMEDY}")
        if not found.exists():
            names = [] if is_place else Store.open(storage_root).list(RUNS)
            known = f"; runs there: {', '.join(sorted(names))}" if names else ""
            hint = "" if is_place else hint_at_folder(run)
            raise RunError(f"{run!r} is no run: {found.uri} has no config.toml{known}{hint}")
        return found

    def at_start(self, outage_s: float, say: Say) -> "RunDirectory":
        """The same run for a command that begins: only storage that answers that it is busy is waited for."""
        return self._with(self.store.patient(Patience.at_start(outage_s, say)))

    def waiting(
        self, outage_s: float, say: Say = _LOGGER.warning, confirm: Callable[[], None] = nobody_holds
    ) -> "RunDirectory":
        """The same run, whose folder is there, with storage that is waited for while it is away.

        `confirm` raises RunHeldError where another process has taken the run over meanwhile.
        """
        return self._with(self.store.settled().patient(Patience(outage_s, say, confirm)))

    @property
    def uri(self) -> str:
        """Where the run is, for people and for `find`."""
        return self.store.uri

    @property
    def name(self) -> str:
        """The last part of the address, without the options that a URI may end with."""
        return self.uri.partition("?")[0].rstrip("/").rpartition("/")[2]

    @property
    def storage_root(self) -> str | None:
        """The storage root that it lies under now, whatever its config says; None of a run that lies elsewhere."""
        found = root_and_name(self.uri)
        return None if found is None else found[0]

    def exists(self) -> bool:
        """Whether a run has been started here."""
        return self.store.exists(CONFIG)

    def identity(self) -> dict[str, Any] | None:
        """What the run was first started as; None where there is no run.

        Neither a lost config.toml nor a damaged dataset.json hides it, where a checkpoint or records.json tells it.
        Raises RunError where nothing tells it.
        """
        found = self.records.identity()
        if found is not None:
            return found
        if self.exists():  # begun before records were sealed
            job, dataset = self._config(self._bytes(CONFIG), _ALONE), self._dataset(self._bytes(DATASET), _ALONE)
            return identity(job, dataset.fingerprint)
        if stored_steps(self.store):
            raise RunError(f"{self.uri} has checkpoints and no {CONFIG}; {_ALONE}")
        return None

    def read_config(self) -> JobConfig:
        """The complete config of the run's last start. Raises RunError when it cannot be read."""
        return self._config(self.records.read(CONFIG))

    def read_dataset(self) -> RunDataset:
        """The classes and the fingerprint. Raises RunError when they cannot be read."""
        return self._dataset(self.records.read(DATASET))

    def read_preprocess(self) -> Preprocess:
        """The evaluation preprocessing of the run.

        It follows from the config: where preprocess.json is damaged, what the config says is sealed as well, and where
        nothing is sealed the two must agree. Raises RunError.
        """
        job, seal = self.read_config(), self.records.seal()
        derived = preprocess_of(job)
        try:
            stored = self._preprocess(self.records.read(PREPROCESS))
        except RunError as error:
            if seal is None or not seal.fits(PREPROCESS, json_bytes(derived.to_json())):
                raise
            _LOGGER.warning("%s\nUntil then %s is gone by, which it follows from", error, CONFIG)
            return derived
        if seal is None and stored != derived:
            raise RunError(
                f"{self.uri}/{PREPROCESS} is not what follows from {CONFIG}, and neither is sealed: one was changed; "
                f"{REMEDY}"
            )
        return stored

    def read_split_csv(self) -> str:
        """The run's split.csv. Raises RunError when it cannot be read."""
        return self._text(SPLIT, self.records.read(SPLIT))

    def write_records(self, job: JobConfig, dataset: dict[str, Any], split_csv: str) -> None:
        """Store and seal what makes a folder a run, or what a start changes of it.

        `job` is complete; `dataset` {"classes", "fingerprint", ...} and `split_csv` become dataset.json and split.csv.
        """
        records = {
            CONFIG: print_config(job).encode(),
            DATASET: json_bytes(dataset),
            SPLIT: split_csv.encode(),
            PREPROCESS: json_bytes(preprocess_of(job).to_json()),
        }
        self.records.write(records, identity(job, str(dataset["fingerprint"])))

    def read_status(self) -> Status | None:
        """The last status, None where there is none or it is being replaced."""
        try:
            return Status.from_json(self._json("status.json"))
        except (RunError, StorageError, ValueError):
            return None

    def write_status(self, status: Status) -> None:
        """Replace the status."""
        self._write_json("status.json", status.to_json())

    def write_result(self, result: dict[str, Any]) -> None:
        """Store the results of a finished run."""
        self._write_json(RESULT, result)

    def keep_result(self, result: dict[str, Any]) -> None:
        """Store the results where other ones are stored, or none."""
        if self.store.read_or_none(RESULT) != json_bytes(result):
            self.write_result(result)

    def checkpoint(self, which: "Which", monitor: str | None = None) -> "Checkpoint":
        """A verified checkpoint; the best one is judged by `monitor`, by default by what the run itself monitors.

        Raises RunError where there is none, where the named one is damaged, or where it is of another run.
        """
        from resnet_dist.checkpoint.reading import load  # noqa: PLC0415

        if monitor is None:
            monitor = self.read_config().checkpoint.monitor if which == "best" else ""
        found = load(self.store, which, self._believed(), monitor)
        self.records.check_origin(found.name, found.origin)
        return found

    def best_manifest(self) -> Manifest:
        """That of the best checkpoint by what the run monitors, without its weights. Raises RunError."""
        found = best_manifest(self.store, self._believed(), self.read_config().checkpoint.monitor)
        self.records.check_origin(name_of(found.step), found.origin)
        return found

    def latest(self, log: Callable[[str], None] = _LOGGER.warning) -> "Checkpoint | None":
        """The newest verified checkpoint, None where there is none; `log` hears why others are passed over."""
        from resnet_dist.checkpoint.reading import latest_verified  # noqa: PLC0415

        return latest_verified(self.store, self._believed(), log)

    def progress(self) -> Progress | None:
        """How far training came by the newest checkpoint's record, None where there is none.

        The weights are not read: what that claims stands at `latest_progress`.
        """
        return latest_progress(self.store, self._believed())

    def metrics(self, pass_over: Callable[[str], None] | None = None) -> list[Record]:
        """All metrics, in the order in which they were recorded.

        `pass_over` hears of each damaged part; without it, one raises RunError.
        """
        return read_metrics(self.store, self._believed(), pass_over)

    def write_evaluation(self, split: str, result: dict[str, Any], predictions: bytes) -> str:
        """Store evaluation/<split>.json and its predictions (Parquet), whose URI comes back."""
        path = f"evaluation/{split}.predictions.parquet"
        self.store.write(path, predictions)
        self._write_json(f"evaluation/{split}.json", result)
        return child_uri(self.uri, path)

    def _believed(self) -> frozenset[Claim]:
        from cluster.storage.lease import read_history  # noqa: PLC0415 - it needs psutil, which `pull` does without

        return read_history(self.store)

    def _with(self, store: Store) -> "RunDirectory":
        """The same run, of which nothing is said again that was said."""
        other = RunDirectory(store)
        other.records.has_warned = self.records.has_warned
        return other

    def _newest_origin(self) -> Origin | None:
        return newest_origin(self.store, self._believed()) if stored_steps(self.store) else None

    def _config(self, data: bytes, remedy: str = REMEDY) -> JobConfig:
        try:
            return read_job_text(self._text(CONFIG, data), f"{self.uri}/{CONFIG}")
        except ConfigError as error:
            raise RunError(f"{error}\n{self.uri}/{CONFIG} cannot be used; {remedy}") from error

    def _dataset(self, data: bytes, remedy: str = REMEDY) -> RunDataset:
        value = json_object(data, f"{self.uri}/{DATASET}", remedy)
        classes, fingerprint = value.get("classes"), value.get("fingerprint")
        if not isinstance(classes, list) or not isinstance(fingerprint, str):
            raise RunError(f"{self.uri}/{DATASET} has no classes or no fingerprint; {remedy}")
        return RunDataset(tuple(str(name) for name in cast("list[object]", classes)), fingerprint)

    def _preprocess(self, data: bytes) -> Preprocess:
        try:
            return Preprocess.from_json(json_object(data, f"{self.uri}/{PREPROCESS}", REMEDY))
        except ValueError as error:
            raise RunError(f"{self.uri}/{PREPROCESS} cannot be used: {error}; {REMEDY}") from error

    def _text(self, name: str, data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise RunError(f"{self.uri}/{name} is not UTF-8 ({error}); {REMEDY}") from error

    def _write_json(self, path: str, value: dict[str, Any]) -> None:
        self.store.write(path, json_bytes(value))

    def _json(self, path: str) -> dict[str, Any]:
        return json_object(self._bytes(path), f"{self.uri}/{path}", "restore it or start under another name")

    def _bytes(self, path: str) -> bytes:
        data = self.store.read_or_none(path)
        if data is None:
            raise RunError(f"{self.uri} has no {path}; the run was not started completely, start it again")
        return data
