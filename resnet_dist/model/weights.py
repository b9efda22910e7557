"""First weights: torchvision's, a file's, or another run's. Nothing pickled is ever executed."""

import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import cast
from urllib.parse import urlparse

import safetensors
import safetensors.torch
import torch
import torchvision

from resnet_dist.compression.pruning.narrowing import narrowed
from resnet_dist.errors import RunError
from resnet_dist.model.architectures import Arch
from resnet_dist.model.layers import layers
from resnet_dist.model.resnet import ResNetClassifier
from resnet_dist.model.squeeze_excite import SqueezeExcite
from resnet_dist.model.structure import Structure
from resnet_dist.model.weights_file import check_weights_file, kind_of_weights

_HEAD = ("fc.weight", "fc.bias")
_LISTED = 5

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class StructuredWeights:
    """Weights of which it is known what network they are of."""

    tensors: Weights
    structure: Structure


def initialize(model: ResNetClassifier, weights: str, find_run: Callable[[str], StructuredWeights | None]) -> list[str]:
    """Load first weights into a freshly built model on the CPU; returns what a log should say of it.

    `weights`: "none"; "imagenet" (torchvision's best for the architecture); a torchvision name such as IMAGENET1K_V2;
    a .safetensors, .pth or .pt file; anything else is a run, which `find_run` turns into its weights. Weights of a run
    or of torchvision that are of a wider network are narrowed; files do not say what network theirs are of. A head for
    another number of classes is left out: the seed's stays, as do gates that the weights do not have. Raises RunError
    for weights that are not there or do not fit, and leaves the model as it is.
    """
    if kind_of_weights(weights) == "none":
        return ["weights: none, initialised from the seed"]
    found = _find(model.structure.arch, weights, find_run)
    message = f"weights: {weights}"
    if isinstance(found, StructuredWeights):
        wide, narrow, found = found.structure, model.structure, found.tensors
        if (wide.arch, wide.layer_widths) != (narrow.arch, narrow.layer_widths):
            found = narrowed(found, wide, narrow)
            message += f", narrowed from {_size(wide)} to {_size(narrow)}"
    return [message, *_load(model, found, weights)]


def hub_file(arch: str, weights: str = "imagenet") -> tuple[Path, str]:
    """Where torch hub keeps a torchvision weights file, and the URL it comes from. Raises RunError for a wrong name."""
    choices = torchvision.models.get_model_weights(arch)
    name = "DEFAULT" if weights == "imagenet" else weights.upper()
    if name not in choices.__members__:
        valid = ", ".join(choice for choice in choices.__members__ if choice != "DEFAULT")
        raise RunError(f"model.weights={weights!r} is none of torchvision's for {arch}; use imagenet, {valid} or none")
    url = str(choices[name].url)
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name, url


def _size(structure: Structure) -> str:
    millions = sum(layer.parameters for layer in layers(structure, 1)) / 1e6
    return f"{structure.arch} of {millions:.1f} million weights"


def _find(arch: Arch, weights: str, find_run: Callable[[str], StructuredWeights | None]) -> Weights | StructuredWeights:
    match kind_of_weights(weights):
        case "torchvision":
            return StructuredWeights(_from_torchvision(arch, weights), Structure(arch))
        case "file":
            path = Path(weights)
            return _from_safetensors(path) if path.suffix == ".safetensors" else _from_pickle(path)
        case _:
            found = find_run(weights)
    if found is None:
        raise RunError(
            f"model.weights={weights!r} is no finished run; give one, a .safetensors or .pth file, imagenet or none"
        )
    return found


def _from_torchvision(arch: str, weights: str) -> Weights:
    path, url = hub_file(arch, weights)
    if path.exists():
        return _from_pickle(path)
    try:
        state: object = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError, HTTPException) as error:
        raise RunError(
            f"model.weights={weights!r} of {arch} is not in torch hub's cache and cannot be fetched ({error}); "
            f"download {url} elsewhere and put it at {path}, or start with model.weights=none or a file of your own"
        ) from error
    return _state_dict(state, str(path))


def _from_safetensors(path: Path) -> Weights:
    check_weights_file(path)
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise RunError(f"weights file {path} cannot be read as safetensors ({error}); copy it again") from error


def _from_pickle(path: Path) -> Weights:
    try:
        check_weights_file(path)
        state: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message advises to load it with weights_only=False, so it is not repeated.
        raise RunError(
            f"weights file {path} is damaged or holds more than tensors; loading it could run code, so it was not "
            "loaded; store model.state_dict() alone, or better as .safetensors"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, zipfile.BadZipFile) as error:
        raise RunError(f"weights file {path} is damaged or no PyTorch file ({error}); copy it again") from error
    return _state_dict(state, str(path))


def _state_dict(state: object, source: str) -> Weights:
    """The tensors in what a file holds: it itself, or what it has under "state_dict" or "model"."""
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and key in state:
            state = cast("Mapping[str, object]", state)[key]
    if not isinstance(state, Mapping):
        raise RunError(f"weights file {source} holds a {type(state).__name__}, no state_dict; store model.state_dict()")
    named = cast("Mapping[object, object]", state)
    tensors = {str(name): value for name, value in named.items() if isinstance(value, torch.Tensor)}
    if len(tensors) < len(named):
        other = next(name for name, value in named.items() if not isinstance(value, torch.Tensor))
        raise RunError(f"weights file {source} has no tensor under {other!r}; store model.state_dict() alone")
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _load(model: ResNetClassifier, found: Weights, source: str) -> list[str]:
    own = model.state_dict()
    # Files older than this counter lack it, and nothing here reads it.
    found = {name: own[name] for name in own if name.endswith("num_batches_tracked")} | found
    messages: list[str] = []
    if _another_head(found, own):
        messages.append(
            f"head: {len(found['fc.bias'])} classes in the weights, {len(own['fc.bias'])} here: "
            "replaced by a new one from the seed"
        )
        found |= {name: own[name] for name in _HEAD}
    if not any(map(_of_gate, found)) and (gates := [name for name in own if _of_gate(name)]):
        count = sum(isinstance(part, SqueezeExcite) for part in model.modules())
        messages.append(f"squeeze-excite: {count} gates start as identity")
        found |= {name: own[name] for name in gates}
    if any(map(_of_gate, found)) and not model.structure.squeeze_excite:
        raise RunError(
            f"weights {source} have squeeze-excite gates and model.squeeze_excite=false has none; "
            "set model.squeeze_excite=true or choose weights without"
        )
    if problems := _problems(found, own):
        more = f"; and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise RunError(
            f"weights {source} do not fit model.arch={model.structure.arch}: {'; '.join(problems[:_LISTED])}{more}. "
            "Choose the architecture that they were trained with"
        )
    model.load_state_dict(found)
    return messages


def _of_gate(name: str) -> bool:
    """Whether a parameter belongs to a gate: layer1.0.se.reduce.weight."""
    return ".se." in name


def _another_head(found: Weights, own: Weights) -> bool:
    """Whether the weights hold a whole linear head that differs in its number of classes only."""
    if not all(name in found and found[name].ndim == own[name].ndim for name in _HEAD):
        return False
    weight, bias = (found[name] for name in _HEAD)
    return weight.shape == (len(bias), own["fc.weight"].shape[1]) and len(bias) != len(own["fc.bias"])


def _problems(found: Weights, own: Weights) -> list[str]:
    problems = [f"{name} is missing" for name in own if name not in found]
    problems += [f"{name} is unknown" for name in found if name not in own]
    for name in (name for name in own if name in found):
        value, expected = found[name], own[name]
        if value.shape != expected.shape:
            problems.append(f"{name} is {list(value.shape)}, not {list(expected.shape)}")
        elif value.layout != torch.strided or value.is_meta or value.is_quantized:
            problems.append(f"{name} is not a dense tensor of numbers")
        elif value.is_floating_point() != expected.is_floating_point():
            problems.append(f"{name} is {value.dtype}, not {expected.dtype}")
        elif not bool(torch.isfinite(value).all()):
            problems.append(f"{name} has values that are not finite")
    return problems
