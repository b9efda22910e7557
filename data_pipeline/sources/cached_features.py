"""What a source need not render, because its consumer has cached the features of those images."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

CachedMicrobatch = Callable[[int, int, int], torch.Tensor | None]
"""Features of a microbatch by epoch, step in the epoch and place in the step, on the source's device; None: not cached.

Called ahead of use and perhaps in another thread; the features must stay valid until they are consumed."""
CachedBatch = Callable[[NDArray[np.int64]], torch.Tensor | None]
"""The same of an evaluation batch, by its rows int64 [B]."""

_Item = TypeVar("_Item")
_Request = TypeVar("_Request")


class Content(NamedTuple):
    """Either images or features."""

    images: torch.Tensor
    """[B, 3, height, width]; with B = 0 where the features are cached."""
    features: torch.Tensor | None


def cached_or_rendered(
    items: Iterator[_Item],
    cached: Callable[[_Item], torch.Tensor | None],
    request: Callable[[_Item], _Request],
    render: Callable[[Iterator[_Request]], Generator[torch.Tensor]],
    no_images: torch.Tensor,
) -> Generator[Content]:
    """The content of each item, in order; a cached item is not rendered.

    A renderer may read its requests as far ahead as it likes. So its requests end at the next cached item: at most one
    cached item is held before it is consumed, and a run of items that are not cached is rendered without interruption.
    """
    for item in items:
        features = cached(item)
        if features is not None:
            yield Content(no_images, features)
            continue
        met: list[torch.Tensor] = []
        with closing(render(_requests(item, items, cached, request, met))) as rendered:
            for images in rendered:
                yield Content(images, None)
        for features in met:
            yield Content(no_images, features)


def _requests(
    first: _Item,
    others: Iterator[_Item],
    cached: Callable[[_Item], torch.Tensor | None],
    request: Callable[[_Item], _Request],
    met: list[torch.Tensor],
) -> Iterator[_Request]:
    """Requests for `first` and for those after it, up to the first cached one, whose features are put into `met`."""
    yield request(first)
    for item in others:
        features = cached(item)
        if features is not None:
            met.append(features)
            return
        yield request(item)
