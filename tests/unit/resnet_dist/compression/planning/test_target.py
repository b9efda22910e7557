import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_dist.compression.planning.target import ENGINES, KINDS, Target

_UNITS = {"macs": "KMG", "parameters": "KMG", "bytes": ("KB", "MB", "GB"), "latency": ("us", "ms", "s")}


@st.composite
def targets(draw: st.DrawFn) -> Target:
    kind = draw(st.sampled_from(KINDS))
    unit = draw(st.sampled_from(["x", *_UNITS[kind]]))
    most = 1.0 if unit == "x" else 1e15
    number = draw(st.floats(0.0, most, exclude_min=True, exclude_max=True))
    return Target(kind, number, unit, draw(st.sampled_from(ENGINES[kind])) if ENGINES[kind] else None)


@given(targets())
def test_its_text_is_read_back_as_the_same_target(target: Target):
    assert Target.parse(target.text) == target


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("macs=0.5", 2e9),
        ("macs=0.5x", 2e9),
        ("macs=900M", 9e8),
        ("macs=1.2G", 1.2e9),
        ("parameters=5M", 5e6),
        ("parameters=800K", 8e5),
        ("bytes=10MB@onnx", 1e7),
        ("bytes=.25x@torchscript", 1e9),
        ("latency=4ms@openvino", 4.0),
        ("latency=500us@onnx", 0.5),
    ],
)
def test_the_limit_is_a_share_or_an_amount(text: str, limit: float):
    assert Target.parse(text).limit(4e9) == pytest.approx(limit, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("flops=0.5", r"'flops' is no kind of target; take one of macs, parameters, bytes, latency"),
        ("macs", r"'' is no amount; write macs=0.5 or macs=900M"),
        ("macs=1", r"the ratio 1 of macs is not in \(0, 1\)"),
        ("macs=0", r"the ratio 0 of macs is not in \(0, 1\)"),
        ("macs=900000000", r"the ratio 900000000 of macs is not in \(0, 1\).*macs=900M"),
        ("macs=0M", r"0.0 is no amount of macs"),
        ("macs=-1M", r"'-1M' is no amount"),
        ("macs=nan", r"'nan' is no amount"),
        ("macs=9ms", r"'ms' is no unit of macs; take one of K, M, G"),
        ("macs=0.5@onnx", r"leave out @onnx"),
        ("bytes=10MB", r"names a format, one of onnx, openvino, torchscript, torch_export"),
        ("bytes=10MB@openvino_int8", r"'openvino_int8' is no format of a target of bytes; take onnx or openvino"),
        ("latency=4ms", r"names a format, one of onnx, openvino"),
        ("latency=4ms@", r"'' is no format of a target of latency"),
        ("latency=4ms@tensorrt", r"'tensorrt' is no format of a target of latency; take onnx or openvino"),
        ("latency=1.2x@onnx", r"the ratio 1.2 of latency is not in"),
    ],
)
def test_what_is_no_target_is_refused_with_a_way_out(text: str, reason: str):
    with pytest.raises(ValueError, match=reason) as caught:
        Target.parse(text)
    assert text[:100] in str(caught.value)


@given(targets(), st.floats(1e-3, 1e12), st.floats(1e-2, 1e12))
def test_a_proposed_target_admits_the_cost_and_hardly_more(target: Target, cost: float, whole: float):
    if target.is_ratio and cost >= 0.99 * whole:
        return
    near = target.near(cost, whole)
    assert (near.kind, near.unit, near.engine) == (target.kind, target.unit, target.engine)
    assert cost * (1 - 1e-9) <= near.limit(whole) <= cost * 1.0101
