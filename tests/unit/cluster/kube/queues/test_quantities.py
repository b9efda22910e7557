"""Kubernetes' quantities, compared with those of its own client."""

from decimal import localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity

from cluster.kube.queues.quantities import CPU, GPU, MEMORY, in_units, parsed, said

SUFFIXES = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]


@given(st.decimals(-(10**9), 10**9, places=3), st.sampled_from(SUFFIXES))
def test_quantities_are_those_of_the_client(number: object, suffix: str) -> None:
    text = f"{number:f}{suffix}"
    with localcontext(prec=60):  # the client rounds to 28 digits by default
        assert parsed(text) == Fraction(parse_quantity(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e3", 1000), ("1E-3", Fraction(1, 1000)), (".5", Fraction(1, 2)), ("5.", 5), (4, 4), ("+2", 2)],
)
def test_other_forms_are_read(text: str, value: Fraction) -> None:
    assert parsed(text) == value


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1gi", "0x10", "1e", "1e3k", "1e9999", "--1", "nan", "inf"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        parsed(text)


def test_amounts_are_said_in_what_people_count() -> None:
    assert (said(GPU, Fraction(4)), said(GPU, Fraction(1))) == ("4 GPUs", "1 GPU")
    assert said(MEMORY, parsed("1536Mi")) == "1.5 GiB of memory"
    assert in_units(CPU, parsed("2500m")) == 2.5
