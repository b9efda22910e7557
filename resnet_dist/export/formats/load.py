"""A format that was just built, loaded from its files to be compared with the trained model."""

from pathlib import Path
from typing import assert_never

from resnet_dist.export.formats.build import BuiltFormat
from resnet_dist.runtime.engines import Engine, start_engine
from resnet_dist.runtime.model_contract import ModelContract
from resnet_dist.runtime.preprocess import Preprocess


def engine_of(built: BuiltFormat, folder: Path, preprocess: Preprocess, classes: int, threads: int) -> Engine:
    """What ships where it can load the format, else torch or TensorRT themselves. These files are our own: trusted."""
    files = [folder / file for file in built.files]
    match built.runtime:
        case "onnxruntime" | "openvino":
            size = None if built.any_size else preprocess.input_size
            contract = ModelContract(str(files[0]), size, classes)
            return start_engine(built.runtime, [file.read_bytes() for file in files], built.hints, contract, threads)
        case "torch":
            from resnet_dist.export.formats.torch_engines import load_torch_engine  # noqa: PLC0415

            return load_torch_engine(files[0])
        case "tensorrt":
            from resnet_dist.export.formats.tensorrt_engine import load_tensorrt_engine  # noqa: PLC0415 - an extra's

            return load_tensorrt_engine(files[0])
        case _:
            assert_never(built.runtime)
