"""Features of a frozen trunk, computed once for all trainings that see the same images through the same trunk.

A view is a function of seed, epoch and sample, and a trunk does not change while it is one: what it makes of a
microbatch is named by epoch, step and place, and what it makes of a validation batch by its rows. The same holds of any
network that never changes, such as a teacher.
"""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from resnet_dist.features.store import Claim, FeatureStore, NoRoomError, Scope

_TRIES = 8
"""Entries that are computed and read back before it is decided whether reading them is worth while."""
_LEAST_PATIENCE_S = 2.0
_PATIENCE_FACTOR = 4.0
"""How many times longer than computing an entry another one's work on it is waited for."""
_KEPT = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass
class Counts:
    """What reuse has done so far, in entries, bytes and seconds."""

    hits: int = 0
    misses: int = 0
    stored_bytes: int = 0
    computing_s: float = 0.0
    """Waiting for images and computing their features, where they had to be."""
    reading_s: float = 0.0

    def __add__(self, other: "Counts") -> "Counts":
        """The sums over both."""
        return Counts(
            self.hits + other.hits,
            self.misses + other.misses,
            self.stored_bytes + other.stored_bytes,
            self.computing_s + other.computing_s,
            self.reading_s + other.reading_s,
        )


class FeatureReuse:
    """The features of one training, shared with others through `store`.

    `base_digest`, in hex, stands for all that decides a trunk's input and arithmetic but the trunk itself. `kept`
    "fp32": training is, to the bit, what it is without. "bf16": features of float32 are rounded to bfloat16 and back,
    stored or not, so that training never depends on what is stored. `say` gets messages for people, which call what is
    kept `what`. Unless `always`, reuse ends for a trunk whose features are computed faster than they are read.
    """

    def __init__(
        self,
        store: FeatureStore,
        base_digest: str,
        kept: Literal["fp32", "bf16"],
        say: Callable[[str], None],
        *,
        always: bool = False,
        what: str = "features of the frozen stages",
    ) -> None:
        self.counts = Counts()
        self._store = store
        self._base_digest = base_digest
        self._kept = kept
        self._say = say
        self._always = always
        self._what = what
        # Sources ask ahead, in threads of their own.
        self._counting = threading.Lock()
        self._trunk: nn.Module | None = None
        self._device = torch.device("cpu")
        self._scope: Scope | None = None
        self._storing = False
        self._computed: list[float] = []
        self._read: list[float] = []

    def beside(self, what: str) -> "FeatureReuse":
        """For another network that sees the same images: in the same store, its numbers always in float32."""
        return FeatureReuse(self._store, self._base_digest, "fp32", self._say, always=self._always, what=what)

    def begin(self, trunk: nn.Module | None) -> None:
        """From now on features are those of `trunk`; None: there are none. Its numbers must not change."""
        if trunk is self._trunk:
            return
        self.close()
        self._trunk = trunk
        self._computed, self._read = [], []
        if trunk is None:
            return
        self._device = next(trunk.parameters()).device
        try:
            self._scope = self._store.scope(_scope_digest(self._base_digest, self._kept, trunk))
            self._storing = True
        except OSError as error:
            self._say(f"{self._what} are computed each time: {error}")

    def close(self) -> None:
        """Let go of the entries, which may then make room for others."""
        if self._scope is not None:
            self._scope.close()
        self._scope, self._trunk = None, None

    def cached_microbatch(self, epoch: int, step: int, index: int) -> torch.Tensor | None:
        """Stored features of a microbatch, on the trunk's device; from any thread."""
        return self._known(_microbatch_name(epoch, step, index))

    def cached_batch(self, rows: NDArray[np.int64]) -> torch.Tensor | None:
        """Stored features of a validation batch, on the trunk's device; from any thread."""
        return self._known(_batch_name(rows))

    def of_microbatch(
        self, epoch: int, step: int, index: int, compute: Callable[[], torch.Tensor], waited: float = 0.0
    ) -> torch.Tensor:
        """Features of a microbatch: another training's if there are any by now, else computed and stored.

        `waited` seconds for its images count as time that computing its features takes.
        """
        return self._of(_microbatch_name(epoch, step, index), compute, waited, decides=True)

    def of_batch(self, rows: NDArray[np.int64], compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Features of a validation batch, as `of_microbatch`."""
        return self._of(_batch_name(rows), compute, 0.0, decides=False)

    def _known(self, name: str) -> torch.Tensor | None:
        scope = self._scope
        if scope is None:
            return None
        start = perf_counter()
        found = scope.get(name)
        return None if found is None else self._hit(found, start)

    def _of(self, name: str, compute: Callable[[], torch.Tensor], waited: float, *, decides: bool) -> torch.Tensor:
        scope = self._scope
        if scope is None or not self._storing:
            return self._compute(compute, waited)
        start = perf_counter()
        try:
            found = scope.get_or_claim(name, self._patience_s())
        except OSError as error:
            self._stop_storing(error)
            found = None
        match found:
            case torch.Tensor():
                return self._hit(found, start)
            case Claim():
                with found:
                    features = self._compute(compute, waited, decides=decides)
                    stored = self._put(found, features)
                if decides and stored and not self._always:
                    self._decide(scope, name)
                return features
            case None:
                return self._compute(compute, waited)

    def _hit(self, found: torch.Tensor, start: float) -> torch.Tensor:
        features = found.to(self._device)
        with self._counting:
            self.counts.hits += 1
            self.counts.reading_s += perf_counter() - start
        return features

    def _compute(self, compute: Callable[[], torch.Tensor], waited: float, *, decides: bool = False) -> torch.Tensor:
        start = perf_counter()
        features = self._rounded(compute())
        if decides and features.is_cuda:
            torch.cuda.synchronize(features.device)
        seconds = waited + perf_counter() - start
        if decides:
            self._computed.append(seconds)
        if self._scope is not None:
            with self._counting:
                self.counts.misses += 1
                self.counts.computing_s += seconds
        return features

    def _rounded(self, features: torch.Tensor) -> torch.Tensor:
        """What a reader of the entry would get. Autocast may have made shorter numbers, which are left as they are."""
        if self._trunk is None or self._kept == "fp32" or features.dtype != torch.float32:
            return features
        return features.to(torch.bfloat16).to(torch.float32)

    def _put(self, claim: Claim, features: torch.Tensor) -> bool:
        kept = _KEPT[self._kept] if features.dtype == torch.float32 else features.dtype
        try:
            self.counts.stored_bytes += claim.put(features.cpu(), kept)
        except (NoRoomError, OSError) as error:
            self._stop_storing(error)
            return False
        return True

    def _stop_storing(self, error: Exception) -> None:
        self._storing = False
        self._say(f"no more {self._what} are stored, new ones are computed each time: {error}")

    def _patience_s(self) -> float:
        return max(_LEAST_PATIENCE_S, _PATIENCE_FACTOR * median(self._computed) if self._computed else 0.0)

    def _decide(self, scope: Scope, name: str) -> None:
        """After the first entries: go on only where reading is faster than computing."""
        if len(self._read) >= _TRIES:
            return
        start = perf_counter()
        found = scope.get(name)
        if found is None:
            return
        found.to(self._device)
        self._read.append(perf_counter() - start)
        computing, reading = median(self._computed), median(self._read)
        if len(self._read) == _TRIES and reading >= computing:
            self._say(
                f"{self._what} are computed each time: reading those of a microbatch takes "
                f"{reading * 1e3:.1f} ms, computing them {computing * 1e3:.1f} ms"
            )
            scope.close()
            self._scope = None


def _microbatch_name(epoch: int, step: int, index: int) -> str:
    return f"train-{epoch}-{step}-{index}"


def _batch_name(rows: NDArray[np.int64]) -> str:
    return f"val-{hashlib.blake2b(rows.astype('<i8').tobytes(), digest_size=16).hexdigest()}"


def _scope_digest(base_digest: str, kept: str, trunk: nn.Module) -> str:
    """Of the trunk's layers and numbers, and of all that decides what goes into it."""
    # The layers' text has what their numbers do not tell: strides, groups, paddings.
    digest = hashlib.blake2b(f"features 2\n{base_digest}\n{kept}\n{trunk}\n".encode(), digest_size=20)
    for name, value in trunk.state_dict().items():
        numbers = value.detach().cpu().contiguous()
        digest.update(f"{name} {numbers.dtype} {tuple(numbers.shape)}\n".encode())
        digest.update(numbers.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
