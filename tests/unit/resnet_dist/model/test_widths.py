"""Widths as text and as JSON: what is written is read again, and what no network can have is refused with a reason."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_dist.model.architectures import ARCHS, SHAPES, Arch
from resnet_dist.model.widths import MULTIPLE, StageWidths, Widths
from tests.small_networks import random_widths

ARCH = st.sampled_from(ARCHS)
OWN = "64 64:64,64 128:128,128 256:256,256 512:512,512"


@given(data=st.data(), arch=ARCH)
def test_text_and_json_are_read_again(data: st.DataObject, arch: Arch) -> None:
    widths = data.draw(random_widths(arch))
    assert Widths.parse(widths.text, arch) == widths
    assert Widths.from_json(json.loads(json.dumps(widths.to_json())), arch) == widths


@pytest.mark.parametrize("arch", ARCHS)
def test_an_architectures_own(arch: Arch) -> None:
    own = Widths.of(arch)
    assert own == Widths.parse("1.0", arch) == Widths.parse(own.text, arch)
    assert own.stem == 64
    assert [stage.channels for stage in own.stages] == [SHAPES[arch].channels(stage) for stage in range(4)]
    assert [len(list(stage.kept)) for stage in own.stages] == list(SHAPES[arch].blocks)
    own.check(arch)


def test_text_that_people_write() -> None:
    assert Widths.of("resnet18").text == OWN
    widths = Widths.parse("32 100:64/16,-,8/64 512:16/16,-,-,- 1024:1/1,-,-,-,-,- 2048:512/512,-,-", "resnet50")
    assert widths.stem == 32
    assert widths.stages[0] == StageWidths(100, ((64, 16), None, (8, 64)))
    assert list(widths.stages[0].kept) == [(0, (64, 16)), (2, (8, 64))]
    assert Widths.parse(OWN.replace("64,64", "-,-"), "resnet18").stages[0] == StageWidths(64, (None, None))


@given(
    arch=st.sampled_from([arch for arch in ARCHS if SHAPES[arch].groups == 1]),
    factor=st.floats(0.0, 1.0, exclude_min=True, exclude_max=True),
)
def test_a_factor_gives_the_nearest_multiples(arch: Arch, factor: float) -> None:
    own, widths = Widths.of(arch), Widths.of(arch, factor)
    widths.check(arch)
    for scaled, whole in zip(_numbers(widths), _numbers(own), strict=True):
        assert scaled % MULTIPLE == 0
        assert MULTIPLE <= scaled <= whole
        assert scaled == MULTIPLE or abs(scaled - whole * factor) <= MULTIPLE / 2 + 1e-6


def _numbers(widths: Widths) -> list[int]:
    found = [widths.stem]
    for stage in widths.stages:
        found.append(stage.channels)
        found += [width for _, block in stage.kept for width in block]
    return found


@pytest.mark.parametrize(
    ("arch", "text", "reason"),
    [
        ("resnet18", "", "a factor such as 0.75, or five words"),
        ("resnet18", "75", "a factor such as 0.75, or five words"),
        ("resnet18", "0.0", r"a factor of widths is in \(0, 1\], not 0"),
        ("resnet18", "1.5", "not 1.5"),
        ("resnet18", "-0.5", "not -0.5"),
        ("resnet18", "0.5.5", "could not convert"),
        ("resnet18", f"{OWN} 512:512", "five words"),
        ("resnet18", OWN.replace("64:", "x:"), "five words"),
        ("resnet18", OWN.replace("128:128", "128:0128"), "'0128' is no width"),
        ("resnet18", OWN.replace("128:128", "128:0"), "'0' is no width"),
        ("resnet18", OWN.replace("128:128", "128:1280000"), "'1280000' is no width"),
        ("resnet18", OWN.replace("128:128", "128:,128"), "'' is no width"),
        ("resnet18", OWN.replace("128:128", "128:128:128"), "no width"),
        ("resnet18", OWN.replace("128:128", "128:129"), r"layer2\.0 has a width of 129; it is in 1\.\.128"),
        ("resnet18", OWN.replace("128:128", "129:128"), r"layer2 has a width of 129; it is in 1\.\.128"),
        ("resnet18", OWN.replace("64 64:", "65 65:"), r"the stem has a width of 65; it is in 1\.\.64"),
        ("resnet18", OWN.replace("64 64:", "48 64:"), "stem has 48 channels and layer1 64; resnet18 adds them"),
        ("resnet18", OWN.replace("128,128", "128"), "layer2 has 1 blocks; resnet18 has 2 there"),
        ("resnet18", OWN.replace("128,128", "-,128"), r"layer2\.0 changes shape and cannot be left out"),
        ("resnet18", OWN.replace("128,128", "128/64,128"), r"layer2\.0 of resnet18 has 1 inner widths, not 2"),
        ("resnet50", OWN, "layer1 has 2 blocks; resnet50 has 3 there"),
        ("resnet50", Widths.of("resnet50").text.replace("256:64/64", "256:-", 1), r"layer1\.0 changes shape"),
        ("resnext50_32x4d", "0.5", "grouped convolutions of resnext50_32x4d cannot change"),
        ("resnext50_32x4d", Widths.of("resnext50_32x4d").text.replace("256/256", "256/224", 1), "grouped convolutions"),
        ("resnext50_32x4d", Widths.of("resnext50_32x4d").text.replace("64", "48", 1), "its blocks can be left out"),
    ],
)
def test_text_that_is_refused(arch: Arch, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Widths.parse(text, arch)


@given(
    text=st.one_of(st.text(), st.from_regex(r"[0-9./,: -]{0,60}"), st.text("0123456789:/,- ", max_size=40)), arch=ARCH
)
def test_any_text_is_widths_or_refused(text: str, arch: Arch) -> None:
    try:
        widths = Widths.parse(text, arch)
    except ValueError:
        return
    widths.check(arch)
    assert Widths.parse(widths.text, arch) == widths


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(value=JSON)
def test_any_other_json_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="widths that are none"):
        Widths.from_json(value, "resnet18")


@given(value=JSON, place=st.sampled_from(["stem", "layer2", "channels", "blocks", "block", "width"]))
def test_json_with_something_else_in_one_place_is_refused(value: Any, place: str) -> None:
    widths = Widths.of("resnet18")
    written = widths.to_json()
    match place:
        case "stem" | "layer2":
            written[place] = value
        case "channels" | "blocks":
            written["layer3"][place] = value
        case "block":
            written["layer3"]["blocks"][1] = value
        case _:
            written["layer3"]["blocks"][1] = [value]
    try:
        found = Widths.from_json(written, "resnet18")
    except ValueError:
        return
    found.check("resnet18")
    assert found.to_json() == written


def test_a_stage_is_replaced() -> None:
    widths, stage = Widths.of("resnet18"), StageWidths(100, ((3,), None))
    changed = widths.with_stage(2, stage)
    assert changed.stages == (*widths.stages[:2], stage, widths.stages[3])
    assert changed.stem == widths.stem
    assert replace(changed, stages=widths.stages) == widths
