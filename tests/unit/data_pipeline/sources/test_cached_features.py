"""What is known is not rendered, and the order stays, however far ahead a renderer asks."""

from collections import deque
from collections.abc import Generator, Iterator
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.config import DataConfig
from data_pipeline.sources.build import evaluation_source, training_source
from data_pipeline.sources.cached_features import cached_or_rendered
from data_pipeline.sources.spec import RankShare, SourceSpec

CPU = torch.device("cpu")
NONE = torch.empty((0, 3, 4, 4))


@given(known=st.lists(st.booleans(), max_size=30), ahead=st.integers(1, 6))
def test_each_item_has_its_own_content_and_at_most_one_is_held(known: list[bool], ahead: int) -> None:
    requested: list[int] = []
    asked: list[int] = []
    consumed = 0

    def lookup(item: int) -> torch.Tensor | None:
        asked.append(item)
        # Only a known one that ends the requests is found before it is its turn.
        assert sum(known[each] for each in asked if each >= consumed) <= 1
        return torch.tensor(float(item)) if known[item] else None

    def render(requests: Iterator[int]) -> Generator[torch.Tensor]:
        pending: deque[int] = deque()
        while True:
            pending.extend(islice(requests, ahead - len(pending)))
            if not pending:
                return
            item = pending.popleft()
            requested.append(item)
            yield torch.tensor(float(item))

    found = cached_or_rendered(iter(range(len(known))), lookup, lambda item: item, render, NONE)
    for item, content in enumerate(found):
        if known[item]:
            assert content.images is NONE
            assert content.features == item
        else:
            assert content.features is None
            assert content.images == item
        consumed = item + 1
    assert consumed == len(known)
    assert requested == [item for item, is_known in enumerate(known) if not is_known]
    assert asked == list(range(len(known)))


@pytest.mark.parametrize("backend", ["dali", "reference", "synthetic"])
@pytest.mark.parametrize("first_step", [0, 1])
def test_sources_leave_out_what_is_known(small_photos, decode, backend: str, first_step: int) -> None:
    if backend == "dali":
        pytest.importorskip("nvidia.dali")
    spec, share = SourceSpec(DataConfig(source=backend, image_size=32), decode, seed=3), RankShare()
    some = {(1, 0, 1), (1, 1, 0), (1, 1, 1), (1, 2, 0)}

    def known(epoch: int, step: int, index: int) -> torch.Tensor | None:
        return torch.tensor([epoch, step, index]) if (epoch, step, index) in some else None

    def known_rows(rows: np.ndarray) -> torch.Tensor | None:
        return torch.from_numpy(rows) if rows[0] in (0, 8) else None

    def listed(with_known: bool):
        source = training_source(spec, small_photos, 8, 4, share, known if with_known else None)
        with source:
            return [(step.index, each) for step in source.epoch(1, first_step) for each in step.microbatches]

    for (step, each), (_, expected) in zip(listed(True), listed(False), strict=True):
        assert each.keys.tolist() == expected.keys.tolist()
        assert torch.equal(each.labels, expected.labels)
        if (1, step, each.index) in some:
            assert each.images.shape == (0, 3, 32, 32)
            assert each.features is not None
            assert each.features.tolist() == [1, step, each.index]
        else:
            assert each.features is None
            assert torch.equal(each.images, expected.images)
    with (
        evaluation_source(spec, small_photos, 4, share, known_rows) as source,
        evaluation_source(spec, small_photos, 4, share) as other,
    ):
        for batch, expected in zip(source.batches(), other.batches(), strict=True):
            assert torch.equal(batch.labels, expected.labels)
            if batch.rows[0] in (0, 8):
                assert batch.features is not None
                assert batch.features.tolist() == batch.rows.tolist()
                assert not len(batch.images)
            else:
                assert torch.equal(batch.images, expected.images)
