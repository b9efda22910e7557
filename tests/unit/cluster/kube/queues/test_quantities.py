"""Kubernetes' quantities as exact numbers."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.kube.queues.quantities import CPU, GPU, MEMORY, in_units, in_words, parsed

UNITS = {
    "": Fraction(1), "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "k": Fraction(10**3),
    "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12), "P": Fraction(10**15), "E": Fraction(10**18),
    **{f"{letter}i": Fraction(1024 ** (power + 1)) for power, letter in enumerate("KMGTPE")},
}  # fmt: skip


@given(st.decimals(-(10**9), 10**9, places=3), st.sampled_from(sorted(UNITS)))
def test_a_quantity_is_its_number_times_its_unit_exactly(number: Decimal, unit: str) -> None:
    assert parsed(f"{number:f}{unit}") == Fraction(number) * UNITS[unit]


def test_no_digit_is_rounded_away() -> None:
    assert parsed("1234567890123456789012345678.000000001Ei") == Fraction("1234567890123456789012345678.000000001") * (
        1024**6
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e3", 1000), ("1E-3", Fraction(1, 1000)), (".5", Fraction(1, 2)), ("5.", 5), (4, 4), ("+2", 2)],
)
def test_other_forms_are_read(text: str, value: Fraction) -> None:
    assert parsed(text) == value


@pytest.mark.parametrize(
    "text", ["", "Gi", "1 Gi", "1gi", "0x10", "1e", "1e3k", "1e9999", "--1", "nan", "inf", "1_000"]
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        parsed(text)


def test_amounts_are_said_in_what_people_count() -> None:
    assert (in_words(GPU, Fraction(4)), in_words(GPU, Fraction(1))) == ("4 GPUs", "1 GPU")
    assert in_words(MEMORY, parsed("1536Mi")) == "1.5 GiB of memory"
    assert in_units(CPU, parsed("2500m")) == 2.5
