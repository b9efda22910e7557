"""What keeps a job's pods from running, read off the pods and their events."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cluster.kube.client.kinds import Object, entries, part

_PULL = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
_CONFIG = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
_MOUNT = {"FailedMount", "FailedAttachVolume"}
_NO_SCALE_UP = "NotTriggerScaleUp"
"""The reason of the cluster autoscaler's event about a pod that no new node would help."""


@dataclass(frozen=True)
class Hindrance:
    """The most telling of all that keeps pods from running."""

    text: str = ""
    """Empty where nothing does."""
    is_lasting: bool = False
    """Whether it lasts until somebody does something: no image, no Secret, no claim, no node that could be added."""


def hindrance_of(pods: Iterable[Object], events: Iterable[Object], began: str) -> Hindrance:
    """What keeps the pods of an attempt from running that began then (UTC, ISO 8601; empty: not known).

    An event stays for an hour. It counts only where it is of this attempt, and where nothing newer says that the same
    object got what it lacked.
    """
    pods = list(pods)
    events = _that_count(list(events), began)
    found: dict[int, Hindrance] = {}
    for rank, each in [*_of_pods(pods, events), *_of_events(events)]:
        found.setdefault(rank, each)
    return found[min(found)] if found else Hindrance()


def _that_count(events: list[Object], began: str) -> list[Object]:
    succeeded: dict[str, str] = {}
    for event in events:
        if event.get("type") == "Normal" and event.get("reason") != _NO_SCALE_UP:
            about = _about(event)
            succeeded[about] = max(succeeded.get(about, ""), _time(event))
    # Times are whole seconds. What came in the second of a success was before it: a failure that lasts comes again.
    return [
        event
        for event in events
        if (not (at := _time(event)) or at >= began[:19]) and (not at or at > succeeded.get(_about(event), ""))
    ]


def _of_pods(pods: Iterable[Object], events: Iterable[Object]) -> Iterator[tuple[int, Hindrance]]:
    no_node = {_about(event) for event in events if event.get("reason") == _NO_SCALE_UP}
    for pod in pods:
        name = str(part(pod, "metadata").get("name", ""))
        status = part(pod, "status")
        for container in [*entries(status, "initContainerStatuses"), *entries(status, "containerStatuses")]:
            yield from _of_container(name, container)
        for condition in entries(status, "conditions"):
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                why = str(condition.get("message") or condition.get("reason") or "")
                no_claim = "persistentvolumeclaim" in why and "not found" in why
                hopeless = "; no node that could be added has room for it" if name in no_node else ""
                yield 3, Hindrance(f"pod {name} cannot be scheduled: {why}{hopeless}", no_claim or name in no_node)
        if status.get("reason") == "Evicted":
            yield 4, Hindrance(f"pod {name} was evicted: {status.get('message', '')}")


def _of_container(pod: str, container: Object) -> Iterator[tuple[int, Hindrance]]:
    state = part(container, "state")
    waiting = part(state, "waiting")
    why, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    image = str(container.get("image", ""))
    if why in _PULL:
        yield 0, Hindrance(f"image {image} cannot be pulled for pod {pod}: {message or why}", is_lasting=True)
    elif why in _CONFIG:
        yield 1, Hindrance(f"pod {pod} cannot start: {message or why}", is_lasting=True)
    for ended in (part(state, "terminated"), part(part(container, "lastState"), "terminated")):
        if ended.get("reason") == "OOMKilled":
            yield (
                0,
                Hindrance(f"out of memory: pod {pod} took more than its limit; raise cluster.memory_per_worker_gib"),
            )


def _of_events(events: Iterable[Object]) -> Iterator[tuple[int, Hindrance]]:
    for event in events:
        why, message = str(event.get("reason") or ""), str(event.get("message") or "")
        if why in _MOUNT:
            lacks = "not found" in message
            yield 2, Hindrance(f"pod {_about(event)} cannot mount a volume: {message}", is_lasting=lacks)
        elif "exceeded quota" in message:
            yield 5, Hindrance(f"quota: {message}")
        elif why == "FailedCreate":
            yield 6, Hindrance(f"a pod cannot be created: {message}")


def _about(event: Object) -> str:
    return str(part(event, "involvedObject").get("name", ""))


def _time(event: Object) -> str:
    """UTC, ISO 8601, of its last occurrence; empty where it has none."""
    times = (
        event.get("lastTimestamp"),
        part(event, "series").get("lastObservedTime"),
        event.get("eventTime"),
        part(event, "metadata").get("creationTimestamp"),
    )
    # Some have microseconds, and all are UTC.
    return next((str(each)[:19] for each in times if each), "")
