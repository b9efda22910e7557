"""A network that computes in 8 bits: the plain one's weights, the file's values, ranges that are data."""

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from resnet_dist.compression.distillation.teacher import Teacher
from resnet_dist.errors import RunError
from resnet_dist.export.formats.build import write_graph
from resnet_dist.export.int8.placement import place
from resnet_dist.export.int8.writer import quantised
from resnet_dist.model.architectures import Arch
from resnet_dist.model.model_json import describe, ranges_in, restored, restored_float
from resnet_dist.model.resnet import ResNetClassifier
from resnet_dist.quantisation.dialect import CPU, TENSORRT, Range
from resnet_dist.quantisation.network import calibrate, is_quantised, quantise, quantisers, ranges_of, set_ranges
from resnet_dist.quantisation.range_setting import RangeSetting
from resnet_dist.runtime.loaded_model import onnx_session
from resnet_dist.training.rank_group import RankGroup
from tests.unit.resnet_dist.export.formats.test_build import PREPROCESS, images, network

KINDS: list[tuple[Arch, bool]] = [("resnet18", True), ("resnet50", False)]


def normalised(count: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(PREPROCESS.normalise(images(count, seed))).permute(0, 3, 1, 2)


def in_8_bits(plain: ResNetClassifier) -> ResNetClassifier:
    made = copy.deepcopy(plain).eval()
    quantise(made)
    calibrate(made, [normalised(16, seed) for seed in range(2)])
    return made


@pytest.mark.parametrize(("arch", "squeeze_excite"), KINDS)
@torch.no_grad()
def test_every_tensor_has_the_values_of_the_file(arch: Arch, squeeze_excite: bool, tmp_path: Path) -> None:
    plain = network(arch, squeeze_excite).eval()
    own = in_8_bits(plain)
    write_graph(plain, PREPROCESS, tmp_path, 20)
    graph = onnx.load(tmp_path / "onnx" / "model.onnx")
    tensors = place(graph, CPU).activations
    assert set(place(graph, TENSORRT).activations) <= set(tensors)
    ranges = dict(zip(tensors, ranges_of(own).values(), strict=True))
    made = quantised(graph, place(graph, CPU), ranges, CPU)
    made.graph.output.extend(
        helper.make_tensor_value_info(f"{tensor}/dequantised", TensorProto.FLOAT, None) for tensor in tensors
    )
    seen: dict[str, torch.Tensor] = {}
    for name, each in quantisers(own).items():
        each.register_forward_hook(lambda _, __, output, name=name: seen.__setitem__(name, output.clone()))
    session, options = onnx_session(made.SerializeToString(), 1)
    batch = images(2, 5)
    logits, *values = session.run(None, {"images": batch}, options)
    answered = own(torch.from_numpy(PREPROCESS.normalise(batch)).permute(0, 3, 1, 2)).numpy()
    for tensor, value, (name, rounded) in zip(tensors, values, seen.items(), strict=True):
        step = float(CPU.quantiser(ranges[tensor]).scale)
        off = np.abs(rounded.numpy().reshape(value.shape) - value) / step
        # A tie that falls to the other side moves what follows by a step here and there.
        # Rounding with the range of another tensor would be a hundred steps off.
        assert np.median(off) < 1.01, (tensor, name)
        assert off.max() < 30, (tensor, name)
        if name in ("images", "conv1", "layer1.0.conv1"):  # before ties add up
            assert (off > 0.5).mean() < 0.002, (tensor, name)
    floating = plain(torch.from_numpy(PREPROCESS.normalise(batch)).permute(0, 3, 1, 2)).numpy()
    assert np.abs(answered - logits).mean() < 1.5 * np.abs(floating - logits).mean()


def test_weights_are_the_plain_networks_by_name_and_by_value() -> None:
    plain = network("resnet50", squeeze_excite=True)
    made = copy.deepcopy(plain)
    quantise(made)
    before, after = plain.state_dict(), made.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert [name for name, _ in plain.named_parameters()] == [name for name, _ in made.named_parameters()]
    assert is_quantised(made)
    assert not is_quantised(plain)
    with pytest.raises(ValueError, match="already"):
        quantise(made)


def test_training_leaves_the_statistics_and_moves_all_else() -> None:
    made = in_8_bits(network("resnet18", squeeze_excite=True)).train()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
    made(normalised(8, 3)).square().sum().backward()
    optimizer.step()
    after = made.state_dict()
    kept = {name for name in before if torch.equal(before[name], after[name])}
    assert kept == {name for name in before if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}


def test_a_copy_is_another_network() -> None:
    made = in_8_bits(network("resnet18"))
    teacher, view = Teacher(made), normalised(4, 9)
    expected = made(view).detach()
    assert torch.allclose(teacher.answer(view), expected, rtol=0, atol=0.02 * float(expected.abs().max()))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
    set_ranges(made, dict.fromkeys(ranges_of(made), Range(0.0, 1.0)))
    assert torch.allclose(teacher.answer(view), expected, rtol=0, atol=0.02 * float(expected.abs().max()))


def test_model_json_rebuilds_it_to_the_bit_and_the_plain_network_too() -> None:
    plain = network("resnet18")
    made = in_8_bits(plain)
    description, view = describe(made), normalised(2, 4)
    again = restored(description, made.state_dict()).eval()
    assert ranges_of(again) == ranges_of(made) == ranges_in(description)
    assert torch.equal(again(view), made(view))
    assert torch.equal(restored_float(description, made.state_dict()).eval()(view), plain.eval()(view))


@pytest.mark.parametrize(
    "found",
    [
        "int8",
        {"weight_bits": 4, "ranges": {}},
        {"weight_bits": 8, "ranges": {"images": [1.0, 0.0]}},
        {"weight_bits": 8, "ranges": {"images": [0.0, float("inf")]}},
        {"weight_bits": 8, "ranges": {"images": [0.0]}},
        {"weight_bits": 8, "ranges": {"images": [0.0, 1.0]}},
        {"weight_bits": 8, "ranges": {}, "more": 1},
    ],
)
def test_another_quantisation_is_refused(found: object) -> None:
    plain = network("resnet18")
    with pytest.raises(RunError, match=r"model\.json has a quantisation"):
        restored({**describe(plain), "quantisation": found}, plain.state_dict())


def test_ranges_are_set_at_the_beginning_of_each_epoch_of_the_first_half() -> None:
    made = in_8_bits(network("resnet18")).train()
    found, unset = ranges_of(made), dict.fromkeys(ranges_of(made), Range(0.0, 1.0))
    setting = RangeSetting(lambda: [normalised(16, seed) for seed in range(2)], epochs=3)
    for epoch, step, is_set in ((0, 0, True), (0, 1, False), (1, 0, True), (2, 0, False), (7, 0, False)):
        set_ranges(made, unset)
        setting.begin_epoch(made, epoch, step, RankGroup())
        assert ranges_of(made) == (found if is_set else unset), (epoch, step)
        assert made.training
    with pytest.raises(ValueError, match="other tensors"):
        set_ranges(made, {"images": Range(0.0, 1.0)})
    with pytest.raises(RunError, match="no values"):
        RangeSetting(list, epochs=3).begin_epoch(made, 0, 0, RankGroup())
