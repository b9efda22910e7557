"""No telemetry of the libraries that a bundle's formats need."""

import sys
from types import ModuleType
from typing import cast


def refuse_openvino_telemetry() -> None:
    """Call it before openvino or nncf is imported: both send telemetry through one package where they can import it,
    and leave its threads behind. Without it they send nothing."""
    sys.modules.setdefault("openvino_telemetry", cast("ModuleType", None))
