"""The files of a run under `storage.root` (runs/<name>/), and how a RUN argument finds it."""

import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cluster.config import StorageConfig
from cluster.errors import StorageError
from cluster.storage.outage import Patience, Say, nobody_holds
from cluster.storage.store import Store
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import print_config, read_job_text
from ray_jobs.run.argument import hint_at_folder, names_a_place
from ray_jobs.terminal.watcher import note
from resnet_dist.checkpoint.progress import Progress, latest_progress
from resnet_dist.checkpoint.store import Claim
from resnet_dist.errors import RunError
from resnet_dist.plain_json import json_object
from resnet_dist.run_records import Record, Status, read_metrics
from resnet_dist.runtime.preprocess import Preprocess

if TYPE_CHECKING:
    # They know torch, which a machine that only fetches bundles or watches jobs does not have.
    from resnet_dist.checkpoint.contents import Checkpoint
    from resnet_dist.checkpoint.reading import Which

RUNS = "runs"
_LOGGER = logging.getLogger(__name__)


class RunDirectory:
    """Reads and writes the records of one run, and reads its checkpoints and metrics.

    Of those it believes what was stored under a claim in the history of the run's lease.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

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
        if not found.exists():
            names = [] if is_place else Store.open(storage_root).list(RUNS)
            known = f"; runs there: {', '.join(sorted(names))}" if names else ""
            hint = "" if is_place else hint_at_folder(run)
            raise RunError(f"{run!r} is no run: {found.uri} has no config.toml{known}{hint}")
        return found

    def at_start(self, outage_s: float, say: Say) -> "RunDirectory":
        """The same run for a command that begins: only storage that answers that it is busy is waited for."""
        return RunDirectory(self.store.patient(Patience.at_start(outage_s, say)))

    def waiting(
        self, outage_s: float, say: Say = _LOGGER.warning, confirm: Callable[[], None] = nobody_holds
    ) -> "RunDirectory":
        """The same run, whose folder is there, with storage that is waited for while it is away.

        `confirm` raises RunHeldError where another process has taken the run over meanwhile.
        """
        return RunDirectory(self.store.settled().patient(Patience(outage_s, say, confirm)))

    @property
    def uri(self) -> str:
        """Where the run is, for people and for `find`."""
        return self.store.uri

    @property
    def name(self) -> str:
        """The last part of the address, without the options that a URI may end with."""
        return self.uri.partition("?")[0].rstrip("/").rpartition("/")[2]

    def exists(self) -> bool:
        """Whether a run has been started here."""
        return self.store.exists("config.toml")

    def read_config(self) -> JobConfig:
        """The complete config that the run was first started with. Raises RunError when it cannot be read."""
        return read_job_text(self._bytes("config.toml").decode(), f"{self.uri}/config.toml")

    def write_config(self, job: JobConfig) -> None:
        """Store the complete config."""
        self.store.write("config.toml", print_config(job).encode())

    def read_dataset(self) -> dict[str, Any]:
        """{"classes", "fingerprint", ...} as `write_dataset` stored it."""
        return self._json("dataset.json")

    def write_dataset(self, dataset: dict[str, Any]) -> None:
        """Store the classes in order, the fingerprint and the counts."""
        self._write_json("dataset.json", dataset)

    def read_preprocess(self) -> Preprocess:
        """The evaluation preprocessing of the run."""
        try:
            return Preprocess.from_json(self._json("preprocess.json"))
        except ValueError as error:
            raise RunError(f"{self.uri}/preprocess.json cannot be used: {error}") from error

    def write_preprocess(self, preprocess: Preprocess) -> None:
        """Store the evaluation preprocessing."""
        self._write_json("preprocess.json", preprocess.to_json())

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
        self._write_json("result.json", result)

    def read_split_csv(self) -> str:
        """The run's split.csv."""
        return self._bytes("split.csv").decode()

    def write_split_csv(self, text: str) -> None:
        """Store the split of every sample."""
        self.store.write("split.csv", text.encode())

    def checkpoint(self, which: "Which", monitor: str | None = None) -> "Checkpoint":
        """A verified checkpoint; the best one is judged by `monitor`, by default by what the run itself monitors.

        Raises RunError where there is none, or where the named one is damaged.
        """
        from resnet_dist.checkpoint.reading import load  # noqa: PLC0415

        if monitor is None:
            monitor = self.read_config().checkpoint.monitor if which == "best" else ""
        return load(self.store, which, self._believed(), monitor)

    def latest(self, log: Callable[[str], None] = _LOGGER.warning) -> "Checkpoint | None":
        """The newest verified checkpoint, None where there is none; `log` hears why others are passed over."""
        from resnet_dist.checkpoint.reading import latest_verified  # noqa: PLC0415

        return latest_verified(self.store, self._believed(), log)

    def progress(self) -> Progress | None:
        """How far training came by the newest checkpoint's record, None where there is none.

        The weights are not read: what that claims stands at `latest_progress`.
        """
        return latest_progress(self.store, self._believed())

    def metrics(self) -> list[Record]:
        """All metrics, in the order in which they were recorded. Raises RunError for a damaged part."""
        return read_metrics(self.store, self._believed())

    def write_evaluation(self, split: str, result: dict[str, Any], predictions: bytes) -> None:
        """Store evaluation/<split>.json and its predictions (Parquet)."""
        self.store.write(f"evaluation/{split}.predictions.parquet", predictions)
        self._write_json(f"evaluation/{split}.json", result)

    def _believed(self) -> frozenset[Claim]:
        from cluster.storage.lease import read_history  # noqa: PLC0415 - it needs psutil, which `pull` does without

        return read_history(self.store)

    def _write_json(self, path: str, value: dict[str, Any]) -> None:
        self.store.write(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())

    def _json(self, path: str) -> dict[str, Any]:
        return json_object(self._bytes(path), f"{self.uri}/{path}", "restore it or start under another name")

    def _bytes(self, path: str) -> bytes:
        data = self.store.read_or_none(path)
        if data is None:
            raise RunError(f"{self.uri} has no {path}; the run was not started completely, start it again")
        return data
