"""A recipe is read whole, or refused with every problem named."""

from pathlib import Path

import pytest

from ray_jobs.compression.recipe import RECIPES, recipe_of
from ray_jobs.compression.request import QuantizeRequest
from ray_jobs.errors import ConfigError
from tests.complaints import complains


@pytest.mark.parametrize("name", RECIPES)
def test_what_ships_is_found_by_its_name(name: str):
    assert recipe_of(name) == (name, RECIPES[name])


def test_a_file_has_phases_in_their_order(tmp_path: Path):
    path = tmp_path / "our recipe.toml"
    path.write_text(
        '[[phase]]\nkind = "distill"\nwidths = "0.75"\nepochs = 4\n'
        '[[phase]]\nkind = "prune"\ntarget = "macs=0.6"\nscope = "all"\nmax_loss = 1.5\n'
    )
    name, recipe = recipe_of(str(path))
    assert name == "our-recipe"
    first, second = recipe.phase
    assert first.changes == {"model": {"widths": "0.75"}, "training": {"epochs": 4}}
    assert (second.request(str(second.target)).scope, second.max_loss, second.changes) == ("all", 1.5, {})


def test_quantisation_is_asked_for_as_by_the_command(tmp_path: Path):
    path = tmp_path / "int8.toml"
    path.write_text('[[phase]]\nkind = "quantize"\nalways = true\nmax_loss = 0.3\nepochs = 2\n')
    [phase] = recipe_of(str(path))[1].phase
    assert (phase.quantize_request, phase.changes) == (QuantizeRequest(True, 0.3), {"training": {"epochs": 2}})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[phase]]\nkind = "prune"\n', ("target",)),
        ('[[phase]]\nkind = "prune"\ntarget = "macs=2"\n', ("macs=2", "(0, 1)")),
        ('[[phase]]\nkind = "distill"\n', ("arch", "widths")),
        ('[[phase]]\nkind = "smallest"\ntarget = "parameters"\n', ("max_loss",)),
        ('[[phase]]\nkind = "smallest"\nmax_loss = 1.0\ntarget = "bytes"\n', ("'bytes'", "parameters")),
        ('[[phase]]\nkind = "quantise"\n', ("kind", "'quantize'")),
        ('[[phase]]\nkind = "quantize"\n[[phase]]\nkind = "prune"\ntarget = "macs=0.5"\n', ("quantize", "last")),
        ('[[phase]]\nkind = "prune"\ntarget = "macs=0.5"\nalways = true\n', ("always", "quantize")),
        ('[[phase]]\nkind = "distill"\nwidth = "0.5"\n', ("recipe.toml: ", "width")),
        ('[[phase]]\nkind = "distill"\nwidths = "1.5"\n', ("widths", "1.5")),
        ('[[phase]]\nkind = "distill"\narch = "resnet81"\n', ("arch", "resnet81")),
        ('[[phase]]\nkind = "distill"\narch = "resnet18"\nwidths = "64 64:9"\n', ("widths", "64 64:9")),
        ("phase = []\n", ("phase",)),
        ("", ("phase",)),
        ("[[phase]\n", ("recipe.toml",)),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path: Path, text: str, words: tuple[str, ...]):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        recipe_of(str(path))
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert len(str(caught.value).splitlines()) == 1, str(caught.value)


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(ConfigError) as caught:
        recipe_of("quarter-latency")
    assert complains(caught, "--recipe", "quarter-latency", "half-latency", remedy="name")
