"""What a worker of `predict` does: the answers of one part after the other, written where all parts go."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.storage.outage import Patience
from cluster.storage.store import Store
from ray_jobs.errors import CERTAIN
from ray_jobs.prediction.parts import PartFolder
from ray_jobs.prediction.predict import PredictOptions, predictor_of, write_rows
from ray_jobs.prediction.rows import OutputFormat
from ray_jobs.prediction.tally import Tally
from resnet_dist.runtime.bundle import Bundle
from resnet_dist.runtime.errors import BundleError
from resnet_dist.runtime.predictor import Predictor

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerOrder:
    """All that a worker needs to know, wherever it runs."""

    place: str
    """Of the bundle, absolute."""
    digest: str
    """Of the bundle that the driver has checked."""
    options: PredictOptions
    """With threads."""
    base: str
    """What relative paths are below."""
    output: str
    count: int
    """Of the parts."""
    kind: OutputFormat


class PartWorker:
    """Answers parts. The bundle is loaded once, with the first."""

    def __init__(self, order: WorkerOrder) -> None:
        self._order = order
        self._parts: PartFolder | None = None
        self._predictor: Predictor | None = None

    def __call__(self, batch: Mapping[str, NDArray[np.int64]]) -> dict[str, Any]:
        """Make the parts of these numbers, "part" int64 [N].

        Returns them with what is wrong, "kind" and "message", empty where nothing is: an error itself would come to the
        driver as text inside of one of Ray's, for others may not be loaded there.
        """
        kind, message = "", ""
        try:
            for number in batch["part"]:
                self._make(int(number))
        except CERTAIN as error:
            kind, message = type(error).__name__, str(error)
        count = len(batch["part"])
        return {"part": batch["part"], "kind": [kind] * count, "message": [message] * count}

    def _make(self, number: int) -> None:
        order, rows, tally = self._order, BytesIO(), Tally()
        if self._predictor is None or self._parts is None:
            store = Store.open(order.output).settled().patient(Patience(order.options.outage_s, _LOGGER.warning))
            self._predictor, self._parts = _loaded(order), PartFolder(store, order.kind, order.count)
        paths = self._parts.paths(number)
        for _, answer in write_rows(rows, order.kind, self._predictor, paths, order.options, order.base):
            tally.count(answer)
        self._parts.write(number, rows.getvalue(), tally)


def raise_error(row: Mapping[str, Any]) -> None:
    """What was wrong with a part, as it would be here; nothing where nothing was."""
    if row["kind"]:
        raise {each.__name__: each for each in CERTAIN}[row["kind"]](row["message"])


def _loaded(order: WorkerOrder) -> Predictor:
    bundle = Bundle.open(order.place)
    if bundle.digest != order.digest:
        raise BundleError(
            f"{order.place} is another bundle on this node ({bundle.digest[:12]}...) than where the command started "
            f"({order.digest[:12]}...); give a folder that all nodes share"
        )
    return predictor_of(bundle, order.options)
