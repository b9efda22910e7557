"""No telemetry: nothing that our processes load tells anybody of itself, unless the user asks for it.

Most libraries read a variable of the environment, some of them once, when they are loaded: ONNX Runtime writes a device
id below the home folder and sends events from a thread of its own, and a call after its import comes too late.
"""

import os
import sys
from collections.abc import Mapping, MutableMapping
from types import ModuleType
from typing import cast

TELEMETRY_OFF = {
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}
"""What switches it off, for every dependency that has any and reads the environment."""


def telemetry_off(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables to set in a process whose environment this is: none that the user has set, to whatever value."""
    return {name: value for name, value in TELEMETRY_OFF.items() if name not in environment}


def refuse_telemetry(environment: MutableMapping[str, str] = os.environ) -> None:
    """Switch it off in this process, and so in those that it starts. Importing `resnet_dist.runtime` does it.

    OpenVINO and NNCF send theirs through one package, where they can import it, and leave its threads behind. Here they
    cannot.
    """
    environment.update(telemetry_off(environment))
    sys.modules.setdefault("openvino_telemetry", cast("ModuleType", None))
