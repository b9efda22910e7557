"""First weights: torchvision's, a file's, or another run's. Nothing pickled is ever executed."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.error import URLError
from urllib.parse import urlparse

import safetensors
import safetensors.torch
import torch
import torchvision

from resnet_dist.errors import RunError
from resnet_dist.model.resnet import ResNetClassifier

_MAX_FILE_BYTES = 8 * 1024**3
_HEAD = ("fc.weight", "fc.bias")

Weights = dict[str, torch.Tensor]


def initialize(model: ResNetClassifier, weights: str, find_run: Callable[[str], Weights]) -> list[str]:
    """Load first weights into a freshly built model; returns what a log should say of it.

    `weights`: "none"; "imagenet" (torchvision's best for the architecture); a torchvision name such as IMAGENET1K_V2;
    a .safetensors, .pth or .pt file; anything else is a run, which `find_run` turns into its weights. A head of
    another size stays as the seed made it. Raises RunError for weights that are not there or do not fit otherwise.
    """
    if weights == "none":
        return ["weights: none, initialised from the seed"]
    if weights == "imagenet" or weights.upper().startswith("IMAGENET1K"):
        found = _from_torchvision(model.arch, weights)
    elif weights.endswith(".safetensors"):
        found = _from_safetensors(Path(weights))
    elif weights.endswith((".pth", ".pt")):
        found = _from_pickle(Path(weights))
    else:
        found = find_run(weights)
    return [f"weights: {weights}", *_load(model, found, weights)]


def hub_file(arch: str, weights: str = "imagenet") -> tuple[Path, str]:
    """Where torch hub keeps a torchvision weights file, and the URL it comes from. Raises RunError for a wrong name."""
    choices = torchvision.models.get_model_weights(arch)
    name = "DEFAULT" if weights == "imagenet" else weights.upper()
    if name not in choices.__members__:
        valid = ", ".join(choices.__members__)
        raise RunError(
            f"model.weights={weights!r} is not one of torchvision's for {arch}; use imagenet, none or {valid}"
        )
    url = str(choices[name].url)
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name, url


def _from_torchvision(arch: str, weights: str) -> Weights:
    path, url = hub_file(arch, weights)
    try:
        state: object = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except (URLError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise RunError(
            f"model.weights={weights!r} of {arch} is not in torch hub's cache and cannot be fetched ({error}); download "
            f"{url} elsewhere and put it at {path}, or start with --model.weights none or a file of your own"
        ) from error
    return _tensors(state, str(path))


def _from_safetensors(path: Path) -> Weights:
    _check_file(path)
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise RunError(f"weights file {path} cannot be read as safetensors: {error}") from error


def _from_pickle(path: Path) -> Weights:
    _check_file(path)
    try:
        state: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RunError(
            f"weights file {path} holds more than tensors, and loading it could run code, so it was not loaded; store "
            "the state_dict alone, or better as .safetensors"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise RunError(f"weights file {path} is damaged or no PyTorch file: {error}") from error
    return _tensors(state, str(path))


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise RunError(f"weights file {path} does not exist; give a .safetensors or .pth file, a run, imagenet or none")
    size = path.stat().st_size
    if size > _MAX_FILE_BYTES:
        raise RunError(f"weights file {path} has {size} bytes; at most {_MAX_FILE_BYTES} are read")


def _tensors(state: object, source: str) -> Weights:
    """The state_dict in what a file holds: itself, or under "state_dict" or "model", names with or without "module."."""
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):  # pyright: ignore[reportUnknownMemberType]
            state = cast("Mapping[str, Any]", state)[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        raise RunError(f"weights file {source} holds no state_dict of tensors; store model.state_dict()")
    return {str(name).removeprefix("module."): value for name, value in cast("Weights", state).items()}


def _load(model: ResNetClassifier, found: Weights, source: str) -> list[str]:
    own = model.state_dict()
    messages: list[str] = []
    if any(name in found and found[name].shape != own[name].shape for name in _HEAD):
        before = next(found[name].shape[0] for name in _HEAD if name in found)
        messages.append(f"head: {before} classes in the weights, {model.fc.out_features} here: replaced by a new one")
        found = {name: value for name, value in found.items() if name not in _HEAD}
        found |= {name: own[name] for name in _HEAD}
    # Files older than the counter lack it; nothing here reads it.
    found = {name: own[name] for name in own if name.endswith("num_batches_tracked") and name not in found} | found
    problems = [f"{name} is missing" for name in own if name not in found]
    problems += [f"{name} is unknown" for name in found if name not in own]
    problems += [
        f"{name} is {list(found[name].shape)}, not {list(own[name].shape)}"
        for name in own
        if name in found and found[name].shape != own[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise RunError(
            f"weights {source} do not fit model.arch={model.arch}: {'; '.join(problems[:5])}{more}; "
            "choose the architecture they were trained with"
        )
    model.load_state_dict(found)
    return messages
