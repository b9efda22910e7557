"""Each format against the network it is made of, as the runtime that ships loads it."""

import json
import shutil
from pathlib import Path
from typing import Any, cast
from zipfile import ZipFile

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from resnet_dist.export.config import ExportConfig, Format
from resnet_dist.export.formats.build import build, missing, wanted_formats, write_graph
from resnet_dist.export.formats.load import engine_of
from resnet_dist.export.formats.onnx_graph import operators
from resnet_dist.export.formats.tensorrt_engine import OPERATORS, write_tensorrt
from resnet_dist.export.int8.calibration import Calibration
from resnet_dist.model.architectures import Arch
from resnet_dist.model.resnet import ResNetClassifier, build_model
from resnet_dist.model.squeeze_excite import SqueezeExcite
from resnet_dist.model.structure import Structure
from resnet_dist.runtime.engines import Engine
from resnet_dist.runtime.errors import RuntimeMissingError
from resnet_dist.runtime.preprocess import Preprocess
from tests.laws import examples

SIZE = (32, 40)
NAMES = ["0", "größer", "c", "d e", '"']
EXACT: tuple[Format, ...] = ("torchscript", "torch_export", "onnx", "openvino")
PREPROCESS = Preprocess(
    mode="whole",
    size=SIZE,
    crop_fraction=0.875,
    pad_colour=(0, 0, 0),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    bit_depth=None,
    max_pixels=10**6,
)


def network(arch: Arch, squeeze_excite: bool = False) -> ResNetClassifier:
    """With BatchNorm and gates as if trained, so that folding them wrongly shows."""
    model = build_model(Structure(arch, squeeze_excite=squeeze_excite), 5, 0.1, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                for values in (part.running_mean, part.bias):
                    cast("torch.Tensor", values).normal_(0, 0.1, generator=generator)
                for values in (part.running_var, part.weight):
                    cast("torch.Tensor", values).uniform_(0.7, 1.3, generator=generator)
            elif isinstance(part, SqueezeExcite):
                for values in part.parameters():
                    values.add_(torch.randn(values.shape, generator=generator), alpha=0.05)
    return model.eval()


def images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth ones: noise alone says little of ranges."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 4, 5, 3)).astype(np.float64)
    fine = np.repeat(np.repeat(coarse, 8, axis=1), 8, axis=2) + generator.normal(0, 10, (count, *SIZE, 3))
    return np.clip(fine, 0, 255).astype(np.uint8)


def expected(model: ResNetClassifier, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.no_grad():
        return model(torch.from_numpy(PREPROCESS.normalise(batch)).permute(0, 3, 1, 2)).numpy()


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder onnx/ of `network("resnet18")`, which most formats are made of. A copy of it saves making it again."""
    folder = tmp_path_factory.mktemp("graph")
    write_graph(network("resnet18"), PREPROCESS, folder, ExportConfig().opset, NAMES)
    return folder / "onnx"


@pytest.mark.parametrize("name", ["onnx", "onnx_resize", "onnxruntime_int8", "onnx_tensorrt_int8"])
def test_onnx_files_name_their_classes(folder: Path, name: Format):
    built(name, network("resnet18"), folder)
    metadata = onnx.load(folder / name / "model.onnx").metadata_props
    assert [each.key for each in metadata] == ["classes"]
    assert json.loads(metadata[0].value) == NAMES


@pytest.fixture
def folder(graph: Path, tmp_path: Path) -> Path:
    """Where a format of `network("resnet18")` can be built."""
    shutil.copytree(graph, tmp_path / "onnx")
    return tmp_path


def calibration() -> Calibration:
    return Calibration([images(16, seed) for seed in range(8)], [images(16, 9)], np.zeros(16, dtype=np.int64))


def built(name: Format, model: ResNetClassifier, folder: Path, config: ExportConfig | None = None) -> Engine:
    config = config or ExportConfig()
    if not (folder / "onnx").exists():
        write_graph(model, PREPROCESS, folder, config.opset)
    made = build(name, model, PREPROCESS, folder, config, calibration())
    assert all((folder / file).is_file() for file in made.files)
    return engine_of(made, folder, PREPROCESS, 5, threads=2)


def relative(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    assert found.shape == wanted.shape
    assert found.dtype == np.float32
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize(
    ("arch", "squeeze_excite"),
    [
        ("resnet18", True),
        pytest.param("resnet18", False, marks=pytest.mark.slow),
        pytest.param("resnet50", False, marks=pytest.mark.slow),
        pytest.param("resnext50_32x4d", True, marks=pytest.mark.slow),
    ],
)
def test_fp32_formats_answer_as_the_network_at_any_batch_size(tmp_path: Path, arch: Arch, squeeze_excite: bool):
    model, batch = network(arch, squeeze_excite), images(7)
    wanted = expected(model, batch)
    for name in EXACT:
        engine = built(name, model, tmp_path)
        assert relative(engine(batch), wanted) < 1e-5
        assert relative(np.concatenate([engine(batch[:1]), engine(batch[1:])]), wanted) < 1e-5


@pytest.mark.parametrize(
    ("arch", "opset"),
    [("resnet18", 20), *(pytest.param("resnet50", opset, marks=pytest.mark.slow) for opset in (18, 20, 25))],
)
def test_the_graph_has_only_operators_that_tensorrt_knows_and_no_trace_of_its_origin(
    tmp_path: Path, arch: Arch, opset: int
):
    write_graph(network(arch, squeeze_excite=True), PREPROCESS, tmp_path, opset)
    path = tmp_path / "onnx" / "model.onnx"
    assert operators(path) <= OPERATORS
    model = onnx.load(path)
    assert [each.version for each in model.opset_import if not each.domain] == [opset]
    # TensorRT takes bytes where they are cast at once, and for nothing else.
    takers = [node.op_type for node in model.graph.node if "images" in node.input]
    assert takers == ["Cast"]
    data = path.read_bytes()
    assert b".py" not in data
    assert str(Path(__file__).parents[5]).encode() not in data

    (tmp_path / "again").mkdir()
    write_graph(network(arch, squeeze_excite=True), PREPROCESS, tmp_path / "again", opset)
    assert (tmp_path / "again" / "onnx" / "model.onnx").read_bytes() == data


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("openvino_fp16", 2e-2),
        ("openvino_bf16", 5e-2),
        ("onnxruntime_int8", 0.1),
        ("openvino_int8", 0.1),
        ("onnx_tensorrt_int8", 0.15),
    ],
)
def test_formats_of_less_precision_answer_nearly_the_same(folder: Path, name: Format, most: float):
    if reason := missing(name, PREPROCESS):
        pytest.skip(reason)
    model, batch = network("resnet18"), images(32, seed=99)
    engine = built(name, model, folder)
    assert 0 < relative(engine(batch), expected(model, batch)) < most
    # bfloat16 stores nothing of its own: it is how the float32 one is loaded.
    own = "openvino" if name == "openvino_bf16" else name
    assert sorted(path.name for path in folder.iterdir()) == ["onnx", own]


@pytest.mark.parametrize(("processor", "most"), [("any", 127), ("x86", 63), ("arm", 127)])
def test_int8_is_written_for_the_processor_that_is_named(folder: Path, processor: str, most: int):
    config = ExportConfig.model_validate({"int8_cpu": processor})
    made = build("onnxruntime_int8", network("resnet18"), PREPROCESS, folder, config, calibration())
    assert made.hints == {"weight_bits": "7" if most == 63 else "8"}
    assert [(proof.convolutions, proof.in_float) for proof in made.proofs] == [(20, ()), (20, ())]
    graph = onnx.load(folder / "onnxruntime_int8" / "model.onnx").graph
    weights = [onnx.numpy_helper.to_array(each) for each in graph.initializer]
    assert max(int(np.abs(each.astype(int)).max()) for each in weights if each.dtype == np.int8) == most
    # Normalisation stays in floating point.
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    scale = next(node for node in graph.node if node.op_type == "Mul")
    assert made_by[scale.input[0]] in ("Cast", "Transpose")


@settings(max_examples=examples(0.15))
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_the_resize_in_the_graph_is_the_contracts_to_a_level(
    resizing: tuple[Engine, Engine], height: int, width: int, seed: int
):
    own, plain = resizing
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    prepared = PREPROCESS.apply(image)[None]
    # A level of 255 more or less moves the logits by little; another filter by much more.
    moved = np.abs(plain(np.clip(prepared.astype(int) + 1, 0, 255).astype(np.uint8)) - plain(prepared)).max()
    assert np.abs(own(image[None]) - plain(prepared)).max() <= max(2 * moved, 1e-2)


@pytest.fixture(scope="module")
def resizing(graph: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Engine]:
    folder, model = tmp_path_factory.mktemp("resize"), network("resnet18")
    shutil.copytree(graph, folder / "onnx")
    return built("onnx_resize", model, folder), built("onnx", model, folder)


def test_a_resize_that_the_graph_cannot_do_is_refused():
    cropped = Preprocess.from_json({**PREPROCESS.to_json(), "mode": "letterbox"})
    with pytest.raises(RuntimeMissingError, match=r"export\.formats=onnx_resize: data\.resize=letterbox cuts or pads"):
        wanted_formats(ExportConfig(formats=("onnx_resize",)), cropped)


@pytest.mark.slow
def test_torchs_formats_say_nothing_of_the_machine(tmp_path: Path):
    model = network("resnet18", squeeze_excite=True)
    for name in ("torchscript", "torch_export"):
        assert relative(built(name, model, tmp_path)(images(3)), expected(model, images(3))) < 1e-5
        with ZipFile(next((tmp_path / name).iterdir())) as records:
            content = b"".join(records.read(each) for each in records.namelist() if "weights" not in each)
        for path in (Path(__file__).parents[5], Path(torch.__file__).parents[1]):
            assert str(path).encode() not in content
        assert b".py:" not in content


def test_accuracy_is_judged_by_the_labels_of_the_very_images(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """NNCF ranks layers by one batch at a time."""
    nncf = pytest.importorskip("nncf")
    batches = [images(4, seed) for seed in range(3)]
    labels = np.array([0] * 4 + [1] * 4 + [2, 2, 2, 0])
    asked: list[float] = []

    def control(model: object, validation_dataset: Any, validation_fn: Any, **_: object) -> object:
        def says(number: int) -> Any:
            return lambda batch: [np.eye(5)[np.full(len(batch), number)]]

        asked.extend(validation_fn(says(place), validation_dataset.get_data([place]))[0] for place in range(3))
        asked.append(validation_fn(says(0), validation_dataset.get_data())[0])
        return model

    monkeypatch.setattr(nncf, "quantize_with_accuracy_control", control)
    config, labelled = ExportConfig(int8_accuracy_drop=0.01), Calibration(batches, batches, labels)
    build("openvino_int8", network("resnet18"), PREPROCESS, folder, config, labelled)
    assert asked == pytest.approx([1.0, 1.0, 0.75, 5 / 12])


def test_tensorrt_is_refused_with_a_command_where_it_is_missing(tmp_path: Path):
    if torch.cuda.is_available():
        pytest.skip("there may be TensorRT here")
    with pytest.raises(
        RuntimeMissingError, match=r"docker run .* trtexec --onnx=.* --stronglyTyped .*images:1x32x40x3"
    ):
        write_tensorrt("tensorrt_int8", tmp_path / "onnx" / "model.onnx", tmp_path / "model.engine", *SIZE)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["tensorrt", "tensorrt_int8"])
def test_a_tensorrt_engine_answers_nearly_the_same(tmp_path: Path, name: Format):
    pytest.importorskip("tensorrt", reason="TensorRT is not installed")
    model, batch = network("resnet18"), images(32, seed=99)
    assert relative(built(name, model, tmp_path)(batch), expected(model, batch)) < 0.1


def test_nothing_said_builds_all_but_what_is_on_request():
    chosen, skipped = wanted_formats(ExportConfig(), PREPROCESS)
    assert {"onnx", "openvino", "torchscript", "torch_export", "onnxruntime_int8"} <= {*chosen}
    assert not {"tensorrt", "tensorrt_int8", "onnx_tensorrt_int8", "onnx_resize"} & {*chosen, *skipped}
    assert wanted_formats(ExportConfig(formats=("openvino", "onnx")), PREPROCESS) == (["openvino", "onnx"], {})


def test_a_format_that_was_asked_for_and_cannot_be_built_is_an_error():
    if missing("tensorrt", PREPROCESS) is None:
        pytest.skip("TensorRT is here")
    with pytest.raises(RuntimeMissingError, match=r"export\.formats=tensorrt: .* the container .*tensorrt:"):
        wanted_formats(ExportConfig(formats=("onnx", "tensorrt")), PREPROCESS)


@pytest.mark.slow
def test_an_accuracy_drop_puts_layers_back_until_it_holds(tmp_path: Path):
    if reason := missing("openvino_int8", PREPROCESS):
        pytest.skip(reason)
    model, val = network("resnet18"), [images(16, seed) for seed in range(50, 56)]
    with torch.no_grad():  # all classes are answered, rather than the one whose bias is largest
        model.fc.bias -= torch.from_numpy(np.concatenate([expected(model, batch) for batch in val]).mean(axis=0))
    labels = np.concatenate([expected(model, batch).argmax(axis=1) for batch in val])
    assert len(np.unique(labels)) > 2
    # Ranges from black images would break the network; the labels are what it answers itself.
    black = [np.zeros((16, *SIZE, 3), dtype=np.uint8)] * 4
    write_graph(model, PREPROCESS, tmp_path, 20)

    def top1(drop: float | None) -> float:
        config, folder = ExportConfig(int8_accuracy_drop=drop), tmp_path / f"drop {drop}"
        shutil.copytree(tmp_path / "onnx", folder / "onnx")
        made = build("openvino_int8", model, PREPROCESS, folder, config, Calibration(black, val, labels))
        engine = engine_of(made, folder, PREPROCESS, 5, threads=2)
        return float(np.mean(np.concatenate([engine(batch) for batch in val]).argmax(axis=1) == labels))

    broken, held = top1(None), top1(0.05)
    assert broken < 0.9
    assert held >= 0.95
