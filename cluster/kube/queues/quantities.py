"""Kubernetes' quantities ("500m", "16Gi") as exact numbers, and as people read them."""

import re
from fractions import Fraction

CPU, MEMORY, GPU = "cpu", "memory", "nvidia.com/gpu"
UNITS = {CPU: "CPUs", MEMORY: "GiB of memory", GPU: "GPUs"}
"""What a resource is counted in."""

_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d{1,3})|([numkMGTPE]|[KMGTPE]i))?")
_SUFFIXES = {
    **{letter: Fraction(1000) ** power for power, letter in enumerate("num", start=-3)},
    **{letter: Fraction(1000) ** power for power, letter in enumerate("kMGTPE", start=1)},
    **{f"{letter}i": Fraction(1024) ** power for power, letter in enumerate("KMGTPE", start=1)},
}


def parsed(quantity: str | int | float) -> Fraction:
    """The number that a quantity stands for. Raises ValueError for what is none."""
    found = _QUANTITY.fullmatch(str(quantity).strip())
    if found is None:
        raise ValueError(f"{quantity!r} is no quantity of Kubernetes")
    number, exponent, suffix = found.groups()
    return Fraction(number) * (Fraction(10) ** int(exponent) if exponent else _SUFFIXES.get(suffix, Fraction(1)))


def in_units(resource: str, amount: Fraction) -> float:
    """An amount of a resource as it is counted: memory in GiB, all else as it is."""
    return float(amount / 1024**3 if resource == MEMORY else amount)


def said(resource: str, amount: Fraction) -> str:
    """An amount of a resource in words: "4 GPUs"."""
    number, unit = in_units(resource, amount), UNITS.get(resource, resource)
    return f"{number:g} {unit.removesuffix('s') if number == 1 else unit}"
