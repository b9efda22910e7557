"""What answers at once must not load what takes seconds."""

import json
import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "torchvision", "ray", "nvidia.dali", "pyarrow", "sklearn", "optuna")
ROOT = Path(__file__).parents[2]
RUNTIME = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "resnet_dist" / "runtime").glob("*.py")
    if path.name != "__init__.py"
)
CONFIGS = [
    "cluster.config",
    "data_pipeline.config",
    "resnet_dist.config",
    "resnet_dist.model.config",
    "ray_jobs.job.config",
]
ERRORS = ["cluster.errors", "data_pipeline.errors", "resnet_dist.errors", "ray_jobs.errors"]
COMMANDS = [
    ["--help"],
    ["--version"],
    ["train", "--help"],
    ["evaluate", "--help"],
    ["predict", "--help"],
    ["train", "--print-config"],
    ["queue", "create", "--help"],
    ["queue", "create", "vision", "--print-team"],
    ["completion", "bash"],
    ["--wrong"],
]


def loaded(code: str) -> set[str]:
    """Names of the modules that are loaded after running some code in a new interpreter."""
    script = f"{code}\nimport json, sys; sys.stdout.write('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_a_heavy_import_would_be_seen():
    assert "pyarrow" in loaded("import cluster.storage.store")


def test_importing_what_commands_begin_with_loads_nothing_heavy():
    """What all of them together do not load, none loads alone."""
    others = {"ray_jobs.api", "ray_jobs.job.identity", "ray_jobs.job.toml", "ray_jobs.prediction.predict"}
    modules = {*CONFIGS, *ERRORS, *RUNTIME, *others}
    found = loaded("\n".join(f"import {module}" for module in sorted(modules)))
    assert modules <= found
    assert found.isdisjoint(HEAVY)


def test_what_answers_at_once_loads_nothing_heavy():
    found = loaded("from ray_jobs.cli.app import main\n" + "\n".join(f"main({each!r})" for each in COMMANDS))
    assert "cyclopts" in found
    assert found.isdisjoint((*HEAVY, "numpy", "onnxruntime", "PIL"))


def test_predict_starts_without_the_configs_of_a_job():
    found = loaded(
        "import sys\nfrom ray_jobs.__main__ import main\nsys.argv = ['resnet-dist', 'predict', 'absent', 'x']\nmain()"
    )
    assert "ray_jobs.prediction.predict" in found
    assert found.isdisjoint({*HEAVY, "ray_jobs.job.config", "onnxruntime"})


def test_who_starts_and_watches_workers_knows_no_torch():
    """Ray's controller and the process that calls fit() load these, seconds before a worker can start."""
    modules = (
        "training.attempt",
        "training.worker_group",
        "evaluation.worker",
        "search.slots",
        "search.supervisors",
    )
    found = loaded("\n".join(f"import ray_jobs.{module}" for module in modules))
    assert "ray.train" in found
    assert found.isdisjoint({"torch", "torchvision", "nvidia.dali", "optuna"})


def test_a_process_of_ray_starts_without_grammars():
    """`import ray` loads jsonschema, and that whatever checker of formats is installed: one compiles a grammar, which
    took each of the many processes of a training a second."""
    found = loaded("import ray")
    assert "jsonschema" in found
    assert found.isdisjoint({"lark", "rfc3987_syntax", "torch", "pandas"})
