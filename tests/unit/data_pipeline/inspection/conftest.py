"""What tests of inspections share: pictures that are all different, and their thumbnails."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from numpy.typing import NDArray

from data_pipeline.inspection.thumbnails import look_at
from tests.textures import texture


@pytest.fixture(scope="session")
def picture() -> Callable[..., NDArray[np.uint8]]:
    """Pixels [side, side, 3] of the texture with this seed."""
    return lambda seed, side=64: np.array(texture(seed, side).convert("RGB"))


@pytest.fixture(scope="session")
def thumbnails(picture: Callable[..., NDArray[np.uint8]]) -> Callable[[Iterable[int]], NDArray[np.uint16]]:
    """Thumbnails [N, SIDE, SIDE] of the textures with these seeds."""
    known: dict[int, NDArray[np.uint16]] = {}

    def of(seeds: Iterable[int]) -> NDArray[np.uint16]:
        wanted = list(seeds)
        known.update({seed: look_at(picture(seed)).thumbnail for seed in set(wanted) - known.keys()})
        return np.stack([known[seed] for seed in wanted])

    return of
