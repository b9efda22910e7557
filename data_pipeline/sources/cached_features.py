"""What need not be rendered because whoever consumes it already knows what would be made of it."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

KnownMicrobatch = Callable[[int, int, int], torch.Tensor | None]
"""Features of a microbatch by epoch, step in the epoch and place in the step, on the source's device; None: unknown.

Asked ahead and perhaps in another thread; what it gives must last until it is consumed."""
KnownBatch = Callable[[NDArray[np.int64]], torch.Tensor | None]
"""The same of an evaluation batch, by its rows int64 [B]."""

_Item = TypeVar("_Item")
_Request = TypeVar("_Request")


class Content(NamedTuple):
    """One of the two."""

    images: torch.Tensor
    """[B, 3, height, width]; with B = 0 where the features are known."""
    features: torch.Tensor | None


def known_or_rendered(
    items: Iterator[_Item],
    known: Callable[[_Item], torch.Tensor | None],
    request: Callable[[_Item], _Request],
    render: Callable[[Iterator[_Request]], Generator[torch.Tensor]],
    no_images: torch.Tensor,
) -> Generator[Content]:
    """The content of each item, in order; for a known one nothing is requested.

    A renderer may ask as far ahead as it likes, so its requests end where it comes to a known item: no more than that
    one is held before it is consumed, and a run of unknown items is rendered as if there were no other.
    """
    for item in items:
        features = known(item)
        if features is not None:
            yield Content(no_images, features)
            continue
        met: list[torch.Tensor] = []
        with closing(render(_unknown(item, items, known, request, met))) as rendered:
            for images in rendered:
                yield Content(images, None)
        for features in met:
            yield Content(no_images, features)


def _unknown(
    first: _Item,
    others: Iterator[_Item],
    known: Callable[[_Item], torch.Tensor | None],
    request: Callable[[_Item], _Request],
    met: list[torch.Tensor],
) -> Iterator[_Request]:
    """Requests for `first` and for those after it, up to the first known one, whose features are put into `met`."""
    yield request(first)
    for item in others:
        features = known(item)
        if features is not None:
            met.append(features)
            return
        yield request(item)
