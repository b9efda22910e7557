"""Kubernetes' quantities ("500m", "16Gi") as exact numbers, and as people read them."""

import re
from decimal import localcontext
from fractions import Fraction

from kubernetes.utils.quantity import parse_quantity  # pyright: ignore[reportUnknownVariableType] - it has no types

from cluster.gpu_resource import WHOLE_GPU

CPU, MEMORY, GPU = "cpu", "memory", WHOLE_GPU
UNITS = {CPU: "CPUs", MEMORY: "GiB of memory", GPU: "GPUs"}
"""What a resource is counted in."""

_FORM = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3}|[numkMGTPE]|[KMGTPE]i)?")
"""The client reads more than Kubernetes does: "nan", "1_000", "1e3k"."""
_DIGITS = 60
"""The client rounds to the digits of the decimal context; no quantity has so many."""


def parsed(quantity: str | int | float) -> Fraction:
    """The number that a quantity stands for, exactly. Raises ValueError for what is no quantity."""
    text = str(quantity).strip()
    if _FORM.fullmatch(text) is None:
        raise ValueError(f"{quantity!r} is no quantity of Kubernetes; write a number with a unit, such as 500m or 16Gi")
    with localcontext(prec=_DIGITS):
        return Fraction(parse_quantity(text))


def in_units(resource: str, amount: Fraction) -> float:
    """An amount of a resource as it is counted: memory in GiB, all else as it is."""
    return float(amount / 1024**3 if resource == MEMORY else amount)


def in_words(resource: str, amount: Fraction) -> str:
    """An amount of a resource in words: "4 GPUs"."""
    number, unit = in_units(resource, amount), UNITS.get(resource, resource)
    return f"{number:g} {unit.removesuffix('s') if number == 1 else unit}"
