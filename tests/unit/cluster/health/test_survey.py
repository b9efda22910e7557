"""What a machine has installed is the same answer whoever asks, on the driver or on a node."""

import subprocess
import sys

from cluster.health.survey import survey


def test_an_imported_package_is_hashed_as_one_that_is_not() -> None:
    code = "import json; from cluster.health.survey import survey; print(json.dumps(survey(['ray_jobs'])['sources']))"
    outputs = [
        subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, check=True).stdout
        for start in ("", "import ray_jobs; ")
    ]
    assert outputs[0] == outputs[1]
    assert "ray_jobs/api.py" in survey(["ray_jobs"])["sources"]
