"""The helper that judges errors: it fails when one of the things that an error must tell is missing."""

import pytest

from ray_jobs.errors import ConfigError
from tests.complaints import complains

ERROR = ConfigError(
    "training.microbatch_size=48 does not divide training.global_batch_size=256; use 32 or 64\n"
    "training.compile=true needs a compiler\n"
    "model.arch='resnet19' is no ResNet:\n"
    "  repair it, or remove it"
)


def test_key_value_and_remedy_are_found() -> None:
    assert complains(ERROR, "training.microbatch_size", 48, 256, remedy="use")
    assert complains(str(ERROR), "model.arch", "resnet19", remedy=("repair", "remove"))
    assert complains(ERROR, "training.compile", True)
    with pytest.raises(ConfigError) as caught:
        raise ERROR
    assert complains(caught, "training.global_batch_size", 256)


@pytest.mark.parametrize(
    ("key", "values", "remedy"),
    [
        ("training.epochs", (), ()),  # a key that is not there
        ("microbatch_size", (), ()),  # the end of another key
        ("training", (), ()),  # the beginning of another key
        ("training.microbatch_size", (49,), ()),
        ("training.compile", (False,), ()),
        ("training.microbatch_size", (4,), ()),  # a digit of the value
        ("training.microbatch_size", (48, 49), ()),  # one of two values
        ("training.microbatch_size", (48,), "repair"),  # another problem's remedy
        ("training.microbatch_size", ("resnet19",), ()),  # another problem's value
        ("training.microbatch_size", (48,), "divide"),  # a verb, and no advice
        ("training.microbatch_size", (48,), "set"),
        ("model.arch", ("resnet19",), ("repair", "use")),  # one of two remedies
    ],
)
def test_whatever_is_missing_fails(key: str, values: tuple[object, ...], remedy: str | tuple[str, ...]) -> None:
    with pytest.raises(AssertionError, match=r"training\.microbatch_size=48 does not"):
        complains(ERROR, key, *values, remedy=remedy)


@pytest.mark.parametrize(("key", "values", "remedy"), [("", (), ()), ("model.arch", ("",), ()), ("model.arch", (), "")])
def test_an_empty_word_fails_as_it_is_in_every_text(key: str, values: tuple[object, ...], remedy: str) -> None:
    with pytest.raises(AssertionError, match="in every text"):
        complains(ERROR, key, *values, remedy=remedy)
