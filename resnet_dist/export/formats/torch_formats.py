"""TorchScript and torch.export: for programs that have torch anyway. Both can hold code."""

import warnings
from pathlib import Path
from typing import Any

import torch

from resnet_dist.export.formats.inference_module import InferenceModule, example
from resnet_dist.runtime.model_contract import INPUT, MOST_IMAGES
from resnet_dist.runtime.preprocess import Preprocess

_BY_THE_WRITER = {"version", "byteorder", ".data/serialization_id", ".format_version", ".storage_alignment"}
"""Records of a TorchScript file that whoever writes one adds by itself."""


def write_torchscript(network: InferenceModule, preprocess: Preprocess, path: Path) -> None:
    """Trace to a .pt file."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have torch.export
        traced = torch.jit.trace(network, (example(preprocess),))  # pyright: ignore[reportUnknownVariableType]
        torch.jit.save(traced, path)
    _forget_its_origin(path)


def write_torch_export(network: InferenceModule, preprocess: Preprocess, path: Path) -> None:
    """torch.export's ExportedProgram as a .pt2 file, for any batch of 1..MOST_IMAGES."""
    batch = torch.export.Dim("batch", min=1, max=MOST_IMAGES)
    program = torch.export.export(network, (example(preprocess),), dynamic_shapes={INPUT: {0: batch}})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    torch.export.save(program, path)


def _forget_its_origin(path: Path) -> None:
    """Write a TorchScript file again without its debugging records, which hold paths of this machine."""
    files: Any = torch._C  # pyright: ignore[reportPrivateUsage] - neither a reader nor an option is offered elsewhere
    reader, stripped = files.PyTorchFileReader(str(path)), path.parent / "stripped" / path.name
    stripped.parent.mkdir()
    writer = files.PyTorchFileWriter(str(stripped))
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and name not in _BY_THE_WRITER:
            data = reader.get_record(name)
            writer.write_record(name, data, len(data))
    writer.write_end_of_file()
    stripped.replace(path)
    stripped.parent.rmdir()
