"""What is seen of a folder's first scan."""

from io import StringIO

import pytest
from rich.console import Console

from ray_jobs.terminal import scan_bar as scan_view
from ray_jobs.terminal.scan_bar import ScanView


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_scan_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    monkeypatch.setattr(scan_view, "_SHORT_S", 0.0)
    text = StringIO()
    with ScanView(Console(file=text, force_terminal=terminal, width=100)) as view:
        view.show(64, 640)
        view.show(128, 640)
        view.show(640, 640)
    if terminal:
        assert "640" in text.getvalue()
    else:
        assert text.getvalue() == "checking images: 64 of 640\n"  # the next line is not due


def test_a_short_scan_is_not_worth_a_word() -> None:
    text = StringIO()
    with ScanView(Console(file=text, force_terminal=True)) as view:
        view.show(3, 640)
    assert text.getvalue() == ""
