"""The two actors of a search, and calls to them with the types of their methods. Ray's handles carry none."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError

from cluster.errors import RayDiedError
from ray_jobs.search.dispatcher import Dispatcher
from ray_jobs.search.known_trials import KnownTrials
from ray_jobs.search.records import TrialRecord

A = TypeVar("A")
P = ParamSpec("P")
R = TypeVar("R")

_MOST_CALLS = 1000
"""Calls that an actor may keep waiting at a time."""


class SearchActorDiedError(RayDiedError):
    """A process that a search needs has ended, and Ray lives: which one. The search goes on from its records."""


class ActorClient(Generic[A]):
    """An actor whose class is `A`, from any process: `client.call(A.method, ...)`."""

    def __init__(self, handle: ActorHandle[A]) -> None:
        self.handle = handle

    def call(self, method: Callable[Concatenate[A, P], Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """The method's answer, once it is there. Raises SearchActorDiedError where the actor has ended."""
        try:
            return ray.get(self.send(method, *args, **kwargs))
        except RayActorError as error:
            raise SearchActorDiedError(f"the search's {method.__qualname__.partition('.')[0]} has ended") from error

    def send(
        self, method: Callable[Concatenate[A, P], Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> "ray.ObjectRef[R]":
        """Call without waiting for the answer."""
        return getattr(self.handle, method.__name__).remote(*args, **kwargs)


DispatcherClient = ActorClient[Dispatcher]
KnownTrialsClient = ActorClient[KnownTrials]


@dataclass(frozen=True)
class SearchActors:
    """What every process of a search talks to."""

    dispatcher: DispatcherClient
    known_trials: KnownTrialsClient

    @classmethod
    def start(cls, records: list[TrialRecord]) -> Self:
        """Start both, with the records of earlier starts."""
        return cls(_started(Dispatcher), _started(KnownTrials, records))

    def require_life(self) -> None:
        """Raise SearchActorDiedError where one has ended. What waits for its answer would wait without end."""
        self.dispatcher.call(Dispatcher.startup_s)
        self.known_trials.call(KnownTrials.lives)


def _started(actor: Callable[P, A], *args: P.args, **kwargs: P.kwargs) -> ActorClient[A]:
    """An actor that takes no CPU of the cluster."""
    remote = cast("Any", ray.remote)(actor)
    return ActorClient(remote.options(num_cpus=0, max_concurrency=_MOST_CALLS).remote(*args, **kwargs))
