"""`resnet-dist doctor`: whether this machine can run this job, and what is missing."""

import importlib
from pathlib import Path
from typing import Any

from cluster.health import preflight
from cluster.health.preflight import Check
from cluster.session.resources import local_resources
from ray_jobs.job.config import JobConfig
from resnet_dist.model.weights_file import kind_of_weights


def diagnose(job: JobConfig) -> list[Check]:
    """Every check, in the order in which a person would fix them. Starts no Ray and fetches nothing."""
    installed = [preflight.check_python(), *preflight.check_packages()]
    cpus, gpus = local_resources(job.cluster)
    checks = [
        *installed,
        preflight.check_cpus(cpus),
        preflight.check_waiting_threads(),
        preflight.check_disk(job.storage.root),
    ]
    if any(check.status == "error" for check in installed):
        return checks  # the checks below import those packages
    return [
        *checks,
        preflight.check_memory(),
        preflight.check_storage(job.storage.root),
        preflight.check_ray(),
        preflight.check_gpus(gpus, job.cluster.use_gpu),
        preflight.check_nccl(gpus),
        check_dali(on_gpu=gpus > 0 and job.cluster.use_gpu is not False),
        check_weights(job.model.arch, job.model.weights),
    ]


def check_dali(on_gpu: bool) -> Check:
    """Whether a DALI pipeline builds and runs where training would run it."""
    place = "gpu" if on_gpu else "cpu"
    try:
        # Loaded by name: DALI's operators are generated and carry no useful types.
        dali, fn, types = (importlib.import_module(f"nvidia.dali{part}") for part in ("", ".fn", ".types"))
        pipeline: Any = dali.Pipeline(batch_size=1, num_threads=1, device_id=0 if on_gpu else None)
        with pipeline:
            image = types.Constant(value=0, shape=[8, 8, 3], dtype=types.UINT8, device=place)
            pipeline.set_outputs(fn.resize(image, size=[4, 4], device=place))
        (images,) = pipeline.run()
        shape: tuple[int, ...] = tuple(images[0].shape())
    except (ImportError, RuntimeError, OSError) as error:
        return Check(f"DALI on {place}", "error", message_of(error), "use data.source=reference, or repair the driver")
    if shape != (4, 4, 3):
        return Check(f"DALI on {place}", "error", f"a wrong result of shape {shape}", "reinstall nvidia-dali-cuda130")
    return Check(f"DALI on {place}", "ok", str(dali.__version__))


def check_weights(arch: str, weights: str) -> Check:
    """Whether the initial weights are available without a download."""
    from resnet_dist.errors import RunError
    from resnet_dist.model.weights import hub_file

    name, kind = "weights", kind_of_weights(weights)
    if kind == "none":
        return Check(name, "ok", "none: initialised from the seed")
    if kind == "file":
        if Path(weights).is_file():
            return Check(name, "ok", weights)
        return Check(name, "error", f"{weights} does not exist", "give a file that exists as --model.weights")
    if kind == "run":
        return Check(name, "ok", f"of the run {weights}, looked up when training starts")
    try:
        path, url = hub_file(arch, weights)
    except RunError as error:
        return Check(name, "error", str(error), "choose one of those as --model.weights")
    if path.is_file():
        return Check(name, "ok", f"{path}")
    remedy = f"training fetches {url}; without a network put that file at {path}, or use --model.weights none"
    return Check(name, "warning", f"{weights} of {arch} is not in torch hub's cache", remedy)


def message_of(error: BaseException) -> str:
    """The first line of an error's message; its class if there is none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
