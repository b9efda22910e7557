"""Whether Kueue is there, in the version that we write."""

from dataclasses import replace

from cluster.errors import SubmissionError
from cluster.kube.api import KubeApi
from cluster.kube.kinds import Kind

_OLDER = ("v1beta1",)
_MADE_FOR = "0.19"


def require_kueue(api: KubeApi, kind: Kind) -> None:
    """Raises SubmissionError where the cluster does not serve a kind of Kueue's, and says whether it is another one."""
    if api.serves(kind):
        return
    group, _, version = kind.api_version.partition("/")
    for other in _OLDER:
        if api.serves(replace(kind, api_version=f"{group}/{other}")):
            raise SubmissionError(
                f"Kueue is too old here: it serves {kind.name} as {group}/{other} and not as {version}; let an admin "
                f"upgrade it to {_MADE_FOR}"
            )
    raise SubmissionError(
        f"Kueue is not installed here, or is of another version: the cluster does not serve {kind.name} "
        f"{kind.api_version}; let an admin install Kueue {_MADE_FOR}. Jobs without a queue need none"
    )
