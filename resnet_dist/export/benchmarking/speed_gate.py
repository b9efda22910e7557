"""What a format's speed must live up to: `NAME=RATIO` to PyTorch with one image, or `NAME=NUMBERips`. Torch-free."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from resnet_dist.export.benchmarking.benchmark import Speed

_FORM = re.compile(r"(?P<name>[a-z0-9_]+)=(?P<number>[0-9.]+)(?P<unit>x|ips)?")


@dataclass(frozen=True)
class SpeedGate:
    """The least that is asked of a format, on the most threads that were measured."""

    format: str
    least: float
    unit: Literal["x", "ips"]
    """x: times the reference's images per second, both with one image; ips: images per second with the best batch."""

    @classmethod
    def parse(cls, text: str) -> "SpeedGate":
        """A gate as it is typed. Raises ValueError."""
        found = _FORM.fullmatch(text.strip())
        try:
            least = float(found["number"]) if found else math.nan
        except ValueError:
            least = math.nan
        if found is None or not 0.0 < least < math.inf:
            raise ValueError(
                f"--fail-under {text}: write FORMAT=RATIO, such as openvino_int8=4.0 (times PyTorch with one image), "
                "or FORMAT=NUMBERips, such as onnx=20ips (images per second with the best batch)"
            )
        return cls(found["name"], least, "ips" if found["unit"] == "ips" else "x")

    def failure(self, speeds: Sequence[Speed]) -> str | None:
        """Why a format does not live up to it, with numbers; None where it does."""
        speed = max(
            (each for each in speeds if each.candidate.name == self.format), key=lambda each: each.threads, default=None
        )
        if speed is None:
            return f"{self.format} was not measured, {self.least:g}{self.unit} are asked for"
        where = f"on {speed.threads} threads"
        if self.unit == "ips":
            found, what = speed.best.images_per_second, f"images/s with batches of {speed.best.batch} {where}"
        elif speed.single.ratio is None:
            return f"{self.format} has nothing to be compared with, {self.least:g}x are asked for"
        else:
            found, what = speed.single.ratio, f"times PyTorch eager fp32 with one image {where}"
        # Not the other way round: a comparison with what is no number fails.
        if found >= self.least:
            return None
        return f"{self.format}: {found:.4g} {what}, at least {self.least:g} are asked for"
