"""What a command says where a package is missing that it needs: the extras bring what the base lacks."""

import sys
from collections.abc import Sequence

from resnet_dist.runtime.errors import RuntimeMissingError

EXTRAS = {
    **dict.fromkeys(("data", "train", "tune", "evaluate", "runs", "searches", "doctor", "compress"), "train"),
    **dict.fromkeys(("submit", "jobs", "queue", "predict"), "cluster"),
    **dict.fromkeys(("promote", "pull"), "storage"),
    **dict.fromkeys(("export", "benchmark"), "export"),
    "report": "report",
}
"""The extra that brings what a command needs beyond the base install."""
_EXTRAS_OF_MODULES = {"kubernetes": "cluster", "yaml": "cluster", "mlflow": "tracking", "model_signing": "signing"}
"""What some options of a command need besides, which its own extra does not bring."""
_INSTEAD = {"predict": ", or leave out --workers and --cluster.address"}
_OURS = ("cluster", "data_pipeline", "ray_jobs", "resnet_dist")


def missing_package(error: ModuleNotFoundError, tokens: Sequence[str]) -> Exception:
    """What to tell of a failed import of the command `tokens`: the error itself where no package is to blame."""
    package = (error.name or "").partition(".")[0]
    command = next((token for token in tokens if not token.startswith("-")), "")
    extra = _EXTRAS_OF_MODULES.get(package, EXTRAS.get(command))
    if extra is None or not package or package in _OURS or package in sys.stdlib_module_names:
        return error
    return RuntimeMissingError(
        f"{command} needs the package {package}, which is not installed; pip install 'resnet-dist[{extra}]'"
        + _INSTEAD.get(command, "")
    )
