"""What keeps pods from running is named while it does, and only what lasts counts as a hindrance."""

from typing import Any

import pytest

from cluster.kube.client.kinds import Object
from cluster.kube.jobs.hindrance import Hindrance, hindrance_of

BEGAN = "2026-01-01T10:00:00Z"
WEBHOOK = 'Error creating: admission webhook "vpod.kb.io" denied the request: Job.batch "tiles" not found'
QUOTA = "pods w-2 is forbidden: exceeded quota: team, requested: cpu=8"


def event(reason: str, message: str = "", second: int = 30, about: str = "tiles", kind: str = "Warning") -> Object:
    at = f"2026-01-01T10:00:{second:02d}Z"
    return {
        "reason": reason,
        "message": message,
        "type": kind,
        "lastTimestamp": at,
        "involvedObject": {"name": about},
    }


def pod(name: str = "w-1", **status: Any) -> Object:
    return {"metadata": {"name": name}, "status": status}


def unscheduled(message: str) -> dict[str, Any]:
    return {"conditions": [{"type": "PodScheduled", "status": "False", "message": message}]}


def waiting(reason: str) -> dict[str, Any]:
    return {"containerStatuses": [{"image": "i", "state": {"waiting": {"reason": reason, "message": "said"}}}]}


def test_a_refusal_that_healed_is_none() -> None:
    """Kueue's webhook refuses a Job's first pod now and then, and the Job's controller tries again at once."""
    healed = [event("FailedCreate", WEBHOOK, 10), event("SuccessfulCreate", "Created pod", 11, kind="Normal")]
    assert hindrance_of([], healed, BEGAN) == Hindrance()
    assert hindrance_of([], healed[::-1], BEGAN) == Hindrance()
    again = [*healed, event("FailedCreate", WEBHOOK, 12)]
    assert hindrance_of([], again, BEGAN) == Hindrance(f"a pod cannot be created: {WEBHOOK}")
    elsewhere = [healed[0], event("SuccessfulCreate", "Created pod", 11, about="other", kind="Normal")]
    assert hindrance_of([], elsewhere, BEGAN).text


def test_an_event_of_an_earlier_attempt_is_none() -> None:
    old = event("FailedCreate", QUOTA, 10)
    assert hindrance_of([], [old], "2026-01-01T10:00:11Z") == Hindrance()
    assert hindrance_of([], [old], "2026-01-01T10:00:10Z") == Hindrance(f"quota: {QUOTA}")
    untimed = {key: value for key, value in old.items() if key != "lastTimestamp"}
    assert hindrance_of([], [untimed], BEGAN).text == f"quota: {QUOTA}"
    series = {**untimed, "series": {"lastObservedTime": "2026-01-01T09:00:00.123456Z"}}
    assert hindrance_of([], [series], BEGAN) == Hindrance()


def test_quota_is_said_of_quota_only() -> None:
    assert hindrance_of([], [event("FailedCreate", WEBHOOK)], BEGAN).text.startswith("a pod cannot be created")
    assert hindrance_of([], [event("FailedCreate", QUOTA)], BEGAN).text.startswith("quota: ")


@pytest.mark.parametrize(
    ("pods", "events", "is_lasting"),
    [
        ([pod(**waiting("ImagePullBackOff"))], [], True),
        ([pod(**waiting("ImageInspectError"))], [], True),
        ([pod(**waiting("CreateContainerConfigError"))], [], True),
        ([pod()], [event("FailedMount", 'secret "keys" not found', about="w-1")], True),
        ([pod()], [event("FailedMount", "timed out waiting for the condition", about="w-1")], False),
        ([pod(**unscheduled('persistentvolumeclaim "resnet-dist-storage" not found'))], [], True),
        ([pod(**unscheduled("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."))], [], False),
        (
            [pod(**unscheduled("0/3 nodes are available"))],
            [event("NotTriggerScaleUp", "pod didn't trigger scale-up", about="w-1", kind="Normal")],
            True,
        ),
        ([], [event("FailedCreate", QUOTA)], False),
        ([pod(containerStatuses=[{"lastState": {"terminated": {"reason": "OOMKilled"}}}])], [], False),
        ([pod(reason="Evicted", message="node was low on memory")], [], False),
    ],
)
def test_what_lasts_until_somebody_acts(pods: list[Object], events: list[Object], is_lasting: bool) -> None:
    found = hindrance_of(pods, events, BEGAN)
    assert found.text
    assert found.is_lasting is is_lasting


def test_the_most_telling_is_named() -> None:
    pods = [pod("w-1", **unscheduled("no room")), pod("w-2", **waiting("ErrImagePull"))]
    found = hindrance_of(pods, [event("FailedCreate", QUOTA)], BEGAN)
    assert found == Hindrance("image i cannot be pulled for pod w-2: said", is_lasting=True)
    assert hindrance_of([pod()], [], BEGAN) == Hindrance()
