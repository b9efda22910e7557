"""What a compressed network shall cost: its multiplications, parameters, bytes or milliseconds. Torch-free."""

import re
from dataclasses import dataclass, replace
from math import ceil, floor, log10
from typing import Literal, Self, get_args

import numpy as np

Kind = Literal["macs", "parameters", "bytes", "latency"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LatencyEngine = Literal["onnx", "openvino"]
"""Formats that latency is measured of, with one image, both in fp32: by ONNX Runtime and by OpenVINO."""
BytesFormat = Literal["onnx", "openvino", "torchscript", "torch_export"]
"""Formats that store each parameter in four bytes, so that their size follows from the widths."""

ENGINES: dict[Kind, tuple[str, ...]] = {
    "macs": (),
    "parameters": (),
    "bytes": get_args(BytesFormat),
    "latency": get_args(LatencyEngine),
}
"""What may follow the "@" of each kind."""
_COUNTS = {"K": 1e3, "M": 1e6, "G": 1e9}
_UNITS: dict[Kind, dict[str, float]] = {
    "macs": _COUNTS,
    "parameters": _COUNTS,
    "bytes": {"KB": 1e3, "MB": 1e6, "GB": 1e9},
    "latency": {"us": 1e-3, "ms": 1.0, "s": 1e3},
}
"""Of an amount, by what it is multiplied with: macs, parameters, bytes, milliseconds."""
_EXAMPLES: dict[Kind, str] = {
    "macs": "macs=0.5 or macs=900M",
    "parameters": "parameters=0.3 or parameters=5M",
    "bytes": "bytes=10MB@onnx or bytes=0.3x@onnx",
    "latency": "latency=4ms@openvino or latency=0.4x@openvino",
}
_BY_NAME: dict[str, Kind] = {kind: kind for kind in KINDS}
_RATIO = "x"
_DIGITS = 3
"""Significant digits of a target that is proposed."""


@dataclass(frozen=True)
class Target:
    """An upper bound of a cost: a share of what the network costs now, or an amount.

    Raises ValueError for one that no network can be asked for.
    """

    kind: Kind
    number: float
    unit: str
    """ "x": the number is a share in (0, 1); else it counts units."""
    engine: str | None = None
    """Of latency and bytes: the format that has them."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is no kind of target; take one of {', '.join(KINDS)}")
        if self.unit != _RATIO and self.unit not in _UNITS[self.kind]:
            raise ValueError(
                f"{self.unit!r} is no unit of {self.kind}; take one of {', '.join(_UNITS[self.kind])}, or a ratio in "
                f"(0, 1): {_EXAMPLES[self.kind]}"
            )
        if self.is_ratio and not 0.0 < self.number < 1.0:
            raise ValueError(
                f"the ratio {_plain(self.number)} of {self.kind} is not in (0, 1), where 1 is the network as it is; "
                f"write {_EXAMPLES[self.kind]}"
            )
        if not 0.0 < self.number < float("inf"):
            raise ValueError(f"{self.number} is no amount of {self.kind}, which is above 0: {_EXAMPLES[self.kind]}")
        self._check_engine()

    def _check_engine(self) -> None:
        known = ENGINES[self.kind]
        if self.engine is None and known:
            raise ValueError(
                f"a target of {self.kind} names a format, one of {', '.join(known)}: {_EXAMPLES[self.kind]}"
            )
        if self.engine is not None and not known:
            raise ValueError(
                f"{self.kind} are the same in every format; leave out @{self.engine}: {_EXAMPLES[self.kind]}"
            )
        if self.engine is not None and self.engine not in known:
            raise ValueError(f"{self.engine!r} is no format of a target of {self.kind}; take {' or '.join(known)}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """From such as "macs=0.5", "parameters=5M", "bytes=0.3x@onnx", "latency=4ms@openvino".

        Raises ValueError, with the value, the rule and the remedy, for anything else.
        """
        kind, _, rest = text.partition("=")
        known = _BY_NAME.get(kind)
        if known is None:
            raise ValueError(
                f"target {text[:100]!r}: {kind[:30]!r} is no kind of target; take one of {', '.join(KINDS)}, as in "
                f"{_EXAMPLES['latency']}"
            )
        amount, at, engine = rest.partition("@")
        found = re.fullmatch(r"([0-9]{1,20}(?:\.[0-9]{1,400})?|\.[0-9]{1,400})([A-Za-z]{0,3})", amount)
        if found is None:
            raise ValueError(f"target {text[:100]!r}: {amount[:30]!r} is no amount; write {_EXAMPLES[known]}")
        try:
            return cls(known, float(found[1]), found[2] or _RATIO, engine if at else None)
        except ValueError as error:
            raise ValueError(f"target {text[:100]!r}: {error}") from None

    @property
    def text(self) -> str:
        """What `parse` reads."""
        unit = "" if self.is_ratio and self.engine is None else self.unit
        return f"{self.kind}={_plain(self.number)}{unit}{'' if self.engine is None else f'@{self.engine}'}"

    @property
    def is_ratio(self) -> bool:
        """Whether it is a share of what the network costs now."""
        return self.unit == _RATIO

    def limit(self, whole: float) -> float:
        """The most that the network may cost, where `whole` is what it costs now.

        Both in multiplications, parameters, bytes or milliseconds.
        """
        return self.number * (whole if self.is_ratio else _UNITS[self.kind][self.unit])

    def near(self, cost: float, whole: float, *, above: bool = True) -> Self:
        """A target of the same kind and unit whose limit is `cost`, rounded to three digits, up where `above`.

        Raises ValueError where there is none: a share of 1 or more.
        """
        number = cost / (whole if self.is_ratio else _UNITS[self.kind][self.unit])
        step = 10.0 ** (floor(log10(number)) - _DIGITS + 1)
        rounded = (ceil if above else floor)(number / step) * step
        return replace(self, number=float(f"{rounded:.{_DIGITS}g}"))


def _plain(number: float) -> str:
    """The shortest decimal that is read back as the same number, without an exponent."""
    return np.format_float_positional(number, trim="-")
