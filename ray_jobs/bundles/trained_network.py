"""The network that a bundle was made of, taken from its run."""

import json
from pathlib import Path

import safetensors.torch

from ray_jobs.run.directory import RunDirectory
from resnet_dist.errors import RunError
from resnet_dist.runtime.bundle import Bundle


def save_network(run: str, storage_root: str, bundle: Bundle, folder: Path) -> None:
    """Write model.json and weights.safetensors of the checkpoint that `bundle` names into `folder`.

    `run` is a path, a URI or a name under the storage root. Raises RunError where the run has no such checkpoint, or
    one of another network.
    """
    directory = RunDirectory.find(run, storage_root)
    step = str(bundle.provenance.get("checkpoint", "")).removeprefix("step-")
    if not step.isdecimal():
        raise RunError(f"{bundle.folder} does not say which checkpoint it is of; export {directory.uri} again")
    found = directory.checkpoint(int(step))
    described = found.model_json()
    own = bundle.provenance.get("arch"), len(bundle.classes)
    if own != (described["arch"], described["classes"]):
        raise RunError(
            f"{directory.uri} holds a {described['arch']} of {described['classes']} classes, {bundle.folder} was made "
            f"of a {own[0]} of {own[1]}; name the run {bundle.provenance.get('run')!r}"
        )
    (folder / "model.json").write_text(json.dumps(described))
    safetensors.torch.save_file(found.weights(), folder / "weights.safetensors")
