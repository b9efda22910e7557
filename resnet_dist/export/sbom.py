"""Which packages a bundle was made with, as a CycloneDX list of components (https://cyclonedx.org)."""

import json
import subprocess
import sys
from functools import cache
from typing import Any


@cache
def components() -> bytes:
    """The packages of this environment: the same bytes for the same environment, and nothing of where it lies."""
    made = subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--of", "JSON"],
        check=True,
        capture_output=True,
    )
    listed: dict[str, Any] = json.loads(made.stdout)
    for component in listed["components"]:
        references = component.pop("externalReferences", [])
        # A package's source is a folder of this machine, or an index that is nobody's business.
        kept = [each for each in references if not str(each.get("comment", "")).startswith("PackageSource")]
        if kept:
            component["externalReferences"] = kept
    return (json.dumps(listed, indent=2) + "\n").encode()
