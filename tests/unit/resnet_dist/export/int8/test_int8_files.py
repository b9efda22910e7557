"""8-bit files: whole in integers where they are meant to run, near the network, and the same bytes again."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from resnet_dist.export.formats import int8_files
from resnet_dist.export.formats.build import write_graph
from resnet_dist.export.formats.onnx_fp16 import write_onnx_fp16
from resnet_dist.export.formats.tensorrt_engine import OPERATORS
from resnet_dist.export.int8.calibration import Calibration
from resnet_dist.export.int8.placement import place
from resnet_dist.export.int8.proof import by_structure, in_onnxruntime, in_openvino
from resnet_dist.export.int8.ranges import ranges_on
from resnet_dist.model.architectures import Arch
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from resnet_dist.quantisation.dialect import CPU, TENSORRT, Dialect
from resnet_dist.runtime.loaded_model import onnx_session, openvino_core
from tests.unit.resnet_dist.export.formats.test_build import PREPROCESS, expected, images, network

pytest.importorskip("openvino", reason="OpenVINO is not installed")


def calibration() -> Calibration:
    return Calibration([images(16, seed) for seed in range(4)], (), np.empty(0, dtype=np.int64))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of `network("resnet18", squeeze_excite=True)`."""
    folder = tmp_path_factory.mktemp("plain")
    write_graph(network("resnet18", squeeze_excite=True), PREPROCESS, folder, 20)
    return folder / "onnx" / "model.onnx"


def answers(data: bytes, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
    session, options = onnx_session(data, 1)
    return session.run(None, {"images": batch}, options)[0]


def signal_to_noise_db(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    return float(10 * np.log10((wanted**2).sum() / ((found - wanted) ** 2).sum()))


@pytest.mark.parametrize(
    ("arch", "squeeze_excite", "opset"),
    [
        ("resnet18", True, 20),
        pytest.param("resnet18", False, 18, marks=pytest.mark.slow),
        pytest.param("resnet50", False, 25, marks=pytest.mark.slow),
        pytest.param("resnext50_32x4d", True, 20, marks=pytest.mark.slow),
    ],
)
def test_one_file_is_whole_in_integers_by_every_rule_and_near_the_network(
    tmp_path: Path, arch: Arch, squeeze_excite: bool, opset: int
):
    model, batch = network(arch, squeeze_excite), images(16, seed=99)
    write_graph(model, PREPROCESS, tmp_path, opset)
    graph, found = tmp_path / "onnx" / "model.onnx", tmp_path / "model.onnx"
    proofs = int8_files.write_onnxruntime_int8(graph, found, calibration(), 8)
    convolutions = sum(node.op_type == "Conv" for node in onnx.load(graph).graph.node)
    assert [(each.convolutions, each.in_float) for each in proofs] == [(convolutions, ())] * 2
    data, wanted = found.read_bytes(), expected(model, batch)
    assert signal_to_noise_db(answers(data, batch), wanted) > 22
    assert len(data) < 0.29 * graph.stat().st_size

    (proof,) = int8_files.write_openvino_int8(graph, tmp_path / "model.xml", calibration(), 8)
    assert (proof.convolutions, proof.in_float) == (convolutions, ())
    core = openvino_core()
    compiled = core.compile_model(tmp_path / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert signal_to_noise_db(compiled(batch)[0], wanted) > 22

    (proof,) = int8_files.write_onnx_tensorrt_int8(graph, tmp_path / "tensorrt.onnx", calibration())
    assert (proof.convolutions, proof.in_float) == (convolutions, ())
    assert signal_to_noise_db(answers((tmp_path / "tensorrt.onnx").read_bytes(), batch), wanted) > 20
    assert {node.op_type for node in onnx.load(tmp_path / "tensorrt.onnx").graph.node} <= OPERATORS


def test_the_same_images_give_the_same_bytes(plain: Path, tmp_path: Path):
    before = plain.read_bytes()
    written = list[bytes]()
    for number in range(2):
        int8_files.write_onnxruntime_int8(plain, tmp_path / f"{number}.onnx", calibration(), 8)
        int8_files.write_onnx_tensorrt_int8(plain, tmp_path / f"{number}.trt.onnx", calibration())
        written.append((tmp_path / f"{number}.onnx").read_bytes() + (tmp_path / f"{number}.trt.onnx").read_bytes())
    assert written[0] == written[1]
    assert plain.read_bytes() == before


def test_processors_without_8_bit_dot_products_get_7_bits(plain: Path, tmp_path: Path):
    int8_files.write_onnxruntime_int8(plain, tmp_path / "model.onnx", calibration(), 7)
    weights = [numpy_helper.to_array(each) for each in onnx.load(tmp_path / "model.onnx").graph.initializer]
    assert max(int(np.abs(each.astype(int)).max()) for each in weights if each.dtype == np.int8) == 63


def test_a_channel_without_weights_keeps_its_bias(tmp_path: Path):
    model, batch = network("resnet18"), images(8, seed=99)
    with np.errstate(all="raise"):
        model.conv1.weight.data[3] = 0.0
        model.bn1.bias.data[3] = 2.5
        write_graph(model, PREPROCESS, tmp_path, 20)
        int8_files.write_onnxruntime_int8(tmp_path / "onnx/model.onnx", tmp_path / "model.onnx", calibration(), 8)
    found = answers((tmp_path / "model.onnx").read_bytes(), batch)
    assert signal_to_noise_db(found, expected(model, batch)) > 22


@pytest.mark.parametrize("squeeze_excite", [False, True])
def test_layers_that_share_a_tensor_have_their_own_steps(tmp_path: Path, squeeze_excite: bool):
    """Of tensors with equal values, such as biases and gates of a network as it is built, the exporter keeps one."""
    model = build_model(Structure("resnet18", squeeze_excite=squeeze_excite), 5, 0.0, seed=0).eval()
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.bias.data[...] = 0.25
    write_graph(model, PREPROCESS, tmp_path, 20)
    graph, batch = tmp_path / "onnx/model.onnx", images(8, seed=99)
    nodes = onnx.load(graph).graph.node
    biases = [name for node in nodes if node.op_type in ("Conv", "Gemm") for name in node.input[2:]]
    assert len(set(biases)) < len(biases)
    int8_files.write_onnxruntime_int8(graph, tmp_path / "model.onnx", calibration(), 8)
    assert signal_to_noise_db(answers((tmp_path / "model.onnx").read_bytes(), batch), expected(model, batch)) > 20


def test_a_channel_of_nothing_has_a_step_that_is_a_number(tmp_path: Path):
    model = network("resnet18")
    for part in (model.conv1.weight, model.bn1.weight, model.bn1.bias, model.bn1.running_mean):
        assert part is not None
        part.data[...] = 0.0
    write_graph(model, PREPROCESS, tmp_path, 20)
    int8_files.write_onnxruntime_int8(tmp_path / "onnx/model.onnx", tmp_path / "model.onnx", calibration(), 8)
    scales = [each for each in onnx.load(tmp_path / "model.onnx").graph.initializer if each.name.endswith("/scale")]
    assert min(float(numpy_helper.to_array(each).min()) for each in scales) >= np.finfo(np.float32).tiny


def test_convolutions_in_floating_point_are_counted_by_each_runtime_and_refused(plain: Path):
    data = plain.read_bytes()
    for proof in (
        in_onnxruntime(data),
        in_onnxruntime(data, "arm"),
        in_openvino(openvino_core().read_model(data)),
        by_structure(onnx.load(plain)),
    ):
        assert proof.convolutions == 20
        assert len(proof.in_float) >= 20
        with pytest.raises(ValueError, match=rf"{proof.runtime} would compute \d+ of 20 convolutions in floating"):
            proof.require()


def test_tensorrt_is_not_given_zero_points(plain: Path, tmp_path: Path):
    int8_files.write_onnxruntime_int8(plain, tmp_path / "model.onnx", calibration(), 8)
    with pytest.raises(ValueError, match="TensorRT would compute"):
        by_structure(onnx.load(tmp_path / "model.onnx")).require()


def test_tensorrt_gets_both_sides_of_every_addition_and_biases_in_float(plain: Path, tmp_path: Path):
    int8_files.write_onnx_tensorrt_int8(plain, tmp_path / "model.onnx", calibration())
    model = onnx.load(tmp_path / "model.onnx")
    made_by = {output: node for node in model.graph.node for output in node.output}
    additions = [node for node in model.graph.node if node.op_type == "Add"][1:]  # the first one normalises
    assert len(additions) == 8
    assert all(made_by[name].op_type == "DequantizeLinear" for node in additions for name in node.input)
    kinds = {each.name: each.data_type for each in model.graph.initializer}
    biases = [node.input[2] for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert {kinds[name] for name in biases} == {TensorProto.FLOAT}

    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    one = next(node for node in bare.graph.node if node.name == additions[3].name)
    one.input[1] = made_by[one.input[1]].input[0].removesuffix("/quantised")
    assert by_structure(bare).in_float == (one.name,)


def test_ranges_are_those_of_the_tensors(plain: Path):
    model, batches = onnx.load(plain), [images(4, seed) for seed in range(3)]
    tensors = place(model, CPU).activations
    found = ranges_on(model, tensors, batches)
    normalised = np.concatenate([PREPROCESS.normalise(batch) for batch in batches])
    assert found[tensors[0]].low == pytest.approx(float(normalised.min()), rel=1e-5)
    assert found[tensors[0]].high == pytest.approx(float(normalised.max()), rel=1e-5)
    assert all(each.low >= 0.0 for name, each in found.items() if "relu" in name)
    wider = ranges_on(model, tensors, [*batches, images(4, 77)])
    assert all(wider[name].low <= found[name].low <= found[name].high <= wider[name].high for name in tensors)


def test_ranges_need_images_and_numbers(plain: Path):
    model = onnx.load(plain)
    tensors = place(model, CPU).activations
    with pytest.raises(ValueError, match=r"no image to take value ranges from; raise export\.calibration_images"):
        ranges_on(model, tensors, [])
    weights = next(each for each in model.graph.initializer if each.name == "network.conv1.weight")
    broken = numpy_helper.to_array(weights).copy()
    broken[5, 0, 3, 3] = np.nan
    weights.CopyFrom(numpy_helper.from_array(broken, weights.name))
    with pytest.raises(ValueError, match=r"network\.conv1\.weight has values that are not finite"):
        ranges_on(model, tensors, [images(2)])


@pytest.mark.parametrize("dialect", [CPU, TENSORRT])
def test_an_operator_without_an_8_bit_form_is_named(plain: Path, dialect: Dialect):
    model = onnx.load(plain)
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    softplus = helper.make_node("Softplus", relu.input, relu.output, "node_softplus")
    relu.CopyFrom(softplus)
    with pytest.raises(ValueError, match="node_softplus is Softplus, which has no 8-bit form here"):
        place(model, dialect)


def test_a_graph_in_half_precision_says_so_in_its_types(plain: Path, tmp_path: Path):
    write_onnx_fp16(plain, tmp_path / "model.onnx")
    model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "model.onnx"))
    kinds = {each.name: each.type.tensor_type.elem_type for each in (*model.graph.value_info, *model.graph.output)}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert {kinds[node.output[0]] for node in convolutions} == {TensorProto.FLOAT16}
    assert kinds["logits"] == TensorProto.FLOAT
    batch = images(8, seed=99)
    found = answers((tmp_path / "model.onnx").read_bytes(), batch)
    assert 0 < np.abs(found - answers(plain.read_bytes(), batch)).max() < 1e-2 * np.abs(found).max()
    assert {node.op_type for node in model.graph.node} <= OPERATORS


def test_a_weight_beyond_half_precision_is_named(plain: Path, tmp_path: Path):
    model = onnx.load(plain)
    weights = next(each for each in model.graph.initializer if each.name == "network.fc.weight")
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(1e9), weights.name))
    onnx.save(model, tmp_path / "large.onnx")
    with pytest.raises(ValueError, match=r"network\.fc\.weight has values that are too large for fp16"):
        write_onnx_fp16(tmp_path / "large.onnx", tmp_path / "model.onnx")
