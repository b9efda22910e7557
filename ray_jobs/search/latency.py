"""How long a trial's network takes for one image, in eager mode: until it is exported there is nothing closer."""

from functools import cache
from statistics import median
from time import perf_counter

import torch

from ray_jobs.config import JobConfig
from resnet_dist.config import Arch
from resnet_dist.model.resnet import ResNetClassifier, build_model

_WARM_UP, _RUNS = 5, 30


def network(job: JobConfig, classes: int) -> ResNetClassifier:
    """The trial's network with any weights, for evaluation."""
    model = build_model(job.model.arch, classes, 0.0, job.seed, squeeze_excite=job.model.squeeze_excite)
    return model.eval()


def parameter_count(job: JobConfig, classes: int) -> int:
    """Parameters of the network, trained and frozen ones."""
    return sum(parameter.numel() for parameter in network(job, classes).parameters())


def latency_ms(job: JobConfig, classes: int, device: torch.device) -> float:
    """Median milliseconds of a forward pass of one image at the job's size; weights do not matter to it.

    Measured once for each network and size, so that equal networks are equally fast however busy the machine is.
    """
    return _latency_ms(job.model.arch, job.model.squeeze_excite, job.data.input_size, classes, device.type)


@cache
def _latency_ms(arch: Arch, squeeze_excite: bool, size: tuple[int, int], classes: int, device: str) -> float:
    model = build_model(arch, classes, 0.0, 0, squeeze_excite=squeeze_excite).eval()
    model.to(device=device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    images = torch.zeros((1, 3, *size), device=device).to(memory_format=torch.channels_last)
    times: list[float] = []
    with torch.inference_mode():
        for _ in range(_WARM_UP + _RUNS):
            began = perf_counter()
            model(images)
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(perf_counter() - began)
    return 1000.0 * median(times[_WARM_UP:])
