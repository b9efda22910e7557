"""First weights of narrower networks from wider ones."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_dist.compression.pruning.channels import highest
from resnet_dist.compression.pruning.narrowing import narrowed
from resnet_dist.errors import RunError
from resnet_dist.model.architectures import Arch
from resnet_dist.model.resnet import ResNetClassifier, build_model
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths
from tests.laws import examples
from tests.small_networks import CLASSES, images, kill_the_rest, random_scores, random_widths, trained_looking

SMALL: dict[Arch, Structure] = {
    "resnet18": Structure("resnet18", widths=Widths.of("resnet18", 0.25)),
    "resnet50": Structure("resnet50", widths=Widths.of("resnet50", 0.25)),
}


def answers(weights: dict[str, torch.Tensor], structure: Structure) -> torch.Tensor:
    network = ResNetClassifier(structure, CLASSES, 0.0).eval()
    network.load_state_dict(weights, strict=True)
    with torch.no_grad():
        return network(images())


@settings(max_examples=examples(0.3))
@given(data=st.data(), arch=st.sampled_from(["resnet18", "resnet50"]), seed=st.integers(0, 2**32))
def test_channels_without_weight_go_first(data: st.DataObject, arch: Arch, seed: int) -> None:
    wide = SMALL[arch]
    narrow = replace(wide, widths=data.draw(random_widths(arch, wide.widths)))
    model = trained_looking(wide)
    # Channels alone are chosen: the wanted blocks have nothing to say in what goes.
    kept = highest(random_scores(wide, seed), narrow.layer_widths)
    kill_the_rest(model, kept)
    with torch.no_grad():
        expected = model(images())
    torch.testing.assert_close(
        answers(narrowed(model.state_dict(), wide, narrow), narrow), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("squeeze_excite", [False, True])
def test_resnet18_gets_the_first_blocks_of_resnet34(squeeze_excite: bool) -> None:
    wide, narrow = Structure("resnet34", squeeze_excite), Structure("resnet18", squeeze_excite)
    model = trained_looking(wide)
    weights = narrowed(model.state_dict(), wide, narrow)
    own = model.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in weights.items())
    assert answers(weights, narrow).shape == (2, CLASSES)


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        (Structure("resnet101"), Structure("resnet50")),
        (Structure("wide_resnet50_2"), Structure("resnet50", widths=Widths.of("resnet50", 0.5))),
        (Structure("resnext50_32x4d"), Structure("resnext50_32x4d", widths=Widths.of("resnext50_32x4d"))),
    ],
)
def test_bottlenecks_become_other_bottlenecks(wide: Structure, narrow: Structure) -> None:
    weights = narrowed(trained_looking(wide).state_dict(), wide, narrow)
    assert answers(weights, narrow).shape == (2, CLASSES)


def test_the_same_structure_gets_the_same_weights() -> None:
    own = trained_looking(SMALL["resnet50"]).state_dict()
    same = narrowed(own, SMALL["resnet50"], SMALL["resnet50"])
    assert list(same) == list(own)
    assert all(torch.equal(value, own[name]) for name, value in same.items())


def test_gates_come_along_and_new_ones_are_left_to_the_seed() -> None:
    wide = replace(SMALL["resnet50"], squeeze_excite=True)
    half = Widths.of("resnet50", 0.125)
    gated, plain = Structure("resnet50", True, half), Structure("resnet50", False, half)
    model = trained_looking(wide)
    assert answers(narrowed(model.state_dict(), wide, gated), gated).shape == (2, CLASSES)
    ungated = trained_looking(SMALL["resnet50"]).state_dict()
    weights = narrowed(ungated, SMALL["resnet50"], gated)
    assert not [name for name in weights if ".se." in name]
    with pytest.raises(RunError, match=r"squeeze-excite gates and model\.squeeze_excite=false has none; set"):
        narrowed(model.state_dict(), wide, plain)


@pytest.mark.parametrize(
    ("wide", "narrow", "match"),
    [
        ("resnet50", "resnet18", r"resnet50 cannot be narrowed to resnet18: .* 2 convolutions .* resnet50, resnet101"),
        (
            "resnet18",
            "resnet50",
            r"3 convolutions in 1 groups, those of the weights 2 .* a model\.arch of resnet18, res",
        ),
        ("resnet50", "resnext50_32x4d", "convolutions in 32 groups"),
        ("resnext101_64x4d", "resnext50_32x4d", "in 64; choose other weights"),
        ("resnext101_32x8d", "resnext50_32x4d", "256 channels in layer1 rather than 128; choose"),
        ("resnet18", "resnet34", r"layer1\.2 with 1 inner widths, of which there are no scores; choose a narrower"),
        ("resnet50", "wide_resnet50_2", r"a width of 128 for layer1\.0, which has 64 channels; .* choose a narrower"),
    ],
)
def test_what_cannot_be_narrowed(wide: Arch, narrow: Arch, match: str) -> None:
    weights = build_model(Structure(wide), CLASSES, 0.0, seed=0).state_dict()
    with pytest.raises(RunError, match=match):
        narrowed(weights, Structure(wide), Structure(narrow))


def test_weights_that_are_of_another_network_or_not_finite() -> None:
    wide = SMALL["resnet18"]
    narrow = Structure("resnet18", widths=Widths.of("resnet18", 0.125))
    own = trained_looking(wide).state_dict()

    def refused(change: dict[str, torch.Tensor], match: str) -> None:
        with pytest.raises(RunError, match=match):
            narrowed(own | change, wide, narrow)

    refused({"bn1.weight": torch.ones(15)}, r"have bn1\.weight \[15\], and resnet18 .* \[16\]: .*; restore the run")
    refused({"fc.weight": torch.ones(5, 3)}, r"have fc\.weight \[5, 3\]")
    refused({"fc.weight": torch.tensor(1.0)}, r"have fc\.weight \[\]")
    refused({"bn1.weight": torch.full((16,), torch.nan)}, "scores of layer1 are not finite")
    del own["layer1.0.conv1.weight"]
    refused({}, r"have layer1\.0\.conv1\.weight None")
