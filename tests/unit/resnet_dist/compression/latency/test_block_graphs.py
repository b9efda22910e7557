import sys
from dataclasses import replace
from math import prod

import numpy as np
import onnx
import pytest

from resnet_dist.compression.latency import block_graphs
from resnet_dist.compression.latency.timed_graphs import fingerprint
from resnet_dist.compression.planning.costs import byte_costs
from resnet_dist.model.layers import sites
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths
from resnet_dist.runtime.errors import RuntimeMissingError
from resnet_dist.runtime.loaded_model import onnx_session, openvino_core, openvino_request
from resnet_dist.runtime.model_contract import INPUT, OUTPUT

SIZE = (40, 56)
STRUCTURES = [
    Structure("resnet18"),
    Structure("resnet50", squeeze_excite=True, widths=Widths.of("resnet50", 0.25)),
    Structure("resnext50_32x4d"),
    Structure(
        "resnet50", widths=Widths.parse("16 64:16/32,-,- 80:16/16,-,-,- 96:16/16,-,-,-,-,- 64:32/48,-,-", "resnet50")
    ),
]


def _answer(graph: bytes, images: np.ndarray) -> np.ndarray:
    session, options = onnx_session(graph, 1)
    return session.run([OUTPUT], {INPUT: images}, options)[0]


@pytest.mark.parametrize("structure", STRUCTURES, ids=["basic", "gated", "grouped", "cut"])
def test_the_whole_graph_has_the_weights_of_the_network_and_answers_images(structure: Structure):
    graph = block_graphs.whole_graph(structure, 7, SIZE)
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model, full_check=True)
    convolved = {name for node in model.graph.node if node.op_type in ("Conv", "Gemm") for name in node.input[1:]}
    numbers = sum(prod(each.dims) for each in model.graph.initializer if each.name in convolved)
    assert 4 * numbers == byte_costs(structure, 7).cost(structure.layer_widths)
    images = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), dtype=np.uint8)
    logits = _answer(graph, images)
    assert logits.shape == (3, 7)
    assert np.isfinite(logits).all()
    assert logits.std(axis=0).min() > 0  # that of one image is not that of another
    assert graph == block_graphs.whole_graph(structure, 7, SIZE)


def test_both_engines_answer_alike():
    structure = STRUCTURES[1]
    graph = block_graphs.whole_graph(structure, 7, SIZE)
    images = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)
    core = openvino_core()
    request = openvino_request(core, core.read_model(graph), {"INFERENCE_PRECISION_HINT": "f32"}, 1)
    request.infer({0: images})
    np.testing.assert_allclose(request.get_output_tensor(0).data, _answer(graph, images), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("structure", STRUCTURES, ids=["basic", "gated", "grouped", "cut"])
def test_each_part_gives_as_many_numbers_as_channels(structure: Structure):
    draw = np.random.default_rng(0)
    for site, inner in sites(structure, SIZE):
        shelled = draw.random((1, block_graphs.SHELL_CHANNELS, *site.size), dtype=np.float32)
        assert _answer(block_graphs.block_graph(structure, site, inner), shelled).shape == (1, site.outputs)
        assert _answer(block_graphs.shell_graph(site.inputs, site.size), shelled).shape == (1, site.inputs)
        wider = replace(site, inputs=site.inputs + 16 * (site.inputs != site.outputs))
        assert _answer(block_graphs.block_graph(structure, wider, inner), shelled).shape == (1, site.outputs)
    images = draw.integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)
    assert _answer(block_graphs.stem_graph(24, SIZE), images).shape == (1, 24)
    last = draw.random((1, block_graphs.SHELL_CHANNELS, 2, 2), dtype=np.float32)
    assert _answer(block_graphs.head_graph(48, 5, (2, 2)), last).shape == (1, 5)
    assert _answer(block_graphs.null_graph(), np.ones((1, 1, 1, 1), dtype=np.float32)).tolist() == [[1.0]]


def test_a_package_that_is_missing_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(RuntimeMissingError, match=r"needs the package onnx; pip install 'resnet-dist\[export\]'"):
        block_graphs.null_graph()
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RuntimeMissingError, match=r"pip install 'resnet-dist\[openvino\]'"):
        fingerprint("openvino", 1)
