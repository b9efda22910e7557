"""A search's page in Chromium: every figure is drawn, nothing is loaded, nothing goes wrong."""

import functools
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ray_jobs.report.search_page import render_search

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --virtual-time-budget=60000 --enable-logging=stderr --dump-dom"
)
Render = Callable[..., str]


def dom(tmp_path: Path, page: str) -> str:
    """The document after its scripts have run. Fails for anything on the console."""
    path = tmp_path / "index.html"
    path.write_text(page, encoding="utf-8")
    command = [str(CHROMIUM), *OPTIONS.split(), f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not console
    return done.stdout


def without_scripts(document: str) -> str:
    return re.sub(r"<script.*?</script>", "", document, flags=re.DOTALL)


def drawn(document: str) -> list[int]:
    """How many traces each figure has, of those that say that they are drawn."""
    root = re.search(r"<html[^>]*>", document)
    assert root is not None
    assert 'data-ready="yes"' in root[0]
    assert "data-problems" not in root[0]
    assert "could not be drawn" not in without_scripts(document)
    return [int(count) for count in re.findall(r'<div class="plot[^>]* data-drawn="(\d+)"', document)]


def with_script(page: str, script: str) -> str:
    """The page without its policy, and with a script of the test's own that runs when all is drawn."""
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    waiting = "const wait = () => document.documentElement.dataset.ready ? act() : setTimeout(wait, 20); wait();"
    return page.replace("</body>", f"<script>function act() {{ {script} }} {waiting}</script></body>")


@functools.cache
def rendered(make: Callable[..., dict[str, Any]], *sizes: int) -> str:
    return render_search(make(*sizes))


@pytest.fixture
def page(make_search: Callable[..., dict[str, Any]]) -> Render:
    return functools.partial(rendered, make_search)


@pytest.mark.parametrize("sizes", [(0, 1), (1, 1), (3, 2), (40, 1), (40, 3), (1000, 2)], ids=str)
def test_every_figure_is_drawn(tmp_path: Path, page: Render, sizes: tuple[int, int]) -> None:
    text = page(*sizes)
    counts = drawn(dom(tmp_path, text))
    assert len(counts) == text.count('<div class="plot"')
    assert all(counts)


def test_nasty_texts_are_shown_as_they_are(tmp_path: Path, make_search: Callable[..., dict[str, Any]]) -> None:
    nasty = "</script><script>alert(1)</script><img src=x onerror=alert(1)><a href='https://example.org'>&lt;"
    search = make_search(12, 2) | {"name": nasty}
    search["objectives"] = [objective | {"metric": nasty} for objective in search["objectives"]]
    search["space"] = [field | {"field": nasty} for field in search["space"]]
    search["importance"] = {nasty: 1.0}
    document = dom(tmp_path, render_search(search))
    assert all(drawn(document))
    shown = without_scripts(document)
    assert "<img" not in shown
    # Plotly makes links of the tags that it knows, unless they are escaped.
    assert "xlink:href" not in shown
    assert "example.org" in shown


def test_foreign_scripts_and_addresses_are_refused(tmp_path: Path, page: Render) -> None:
    foreign = '<script>document.documentElement.dataset.injected = "yes"</script><img src="http://127.0.0.1:9/a.png">'
    path = tmp_path / "index.html"
    path.write_text(page(3).replace("<main>", f"<main>{foreign}"), encoding="utf-8")
    command = [str(CHROMIUM), *OPTIONS.split(), f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()]
    document = subprocess.run(command, capture_output=True, text=True, timeout=200).stdout
    root = re.search(r"<html[^>]*>", document)
    assert root is not None
    assert "data-injected" not in root[0]
    assert "script-src" in root[0]
    assert "img-src http://127.0.0.1:9/a.png" in root[0]


def test_a_column_sorts_both_ways_with_what_is_missing_last(tmp_path: Path, page: Render) -> None:
    script = """
      const table = document.querySelector("table.sortable");
      const head = table.tHead.rows[0].cells[3];
      const column = () => Array.from(table.tBodies[0].rows, (row) => row.cells[3].textContent).join(" ");
      for (const name of ["once", "twice"]) {
        head.querySelector("button").click();
        document.body.dataset[name] = column() + "/" + head.getAttribute("aria-sort");
      }
    """
    document = dom(tmp_path, with_script(page(40), script))
    for name, direction, is_reverse in (("once", "ascending", False), ("twice", "descending", True)):
        found = re.search(rf'data-{name}="([^"]*)/{direction}"', document)
        assert found is not None
        cells = found[1].split()
        known = [float(cell) for cell in cells if cell != "—"]
        assert known == sorted(known, reverse=is_reverse)
        assert cells[len(known) :] == ["—"] * (40 - len(known))
        assert len(known) < 40


def test_it_prints_light_and_narrow_and_then_is_as_before(tmp_path: Path, page: Render) -> None:
    script = """
      const widths = () => Array.from(document.querySelectorAll(".main-svg"), (svg) => svg.clientWidth);
      const before = Math.max(...widths());
      dispatchEvent(new Event("beforeprint"));
      document.body.dataset.printed = Math.max(...widths()) + getComputedStyle(document.body).backgroundColor;
      dispatchEvent(new Event("afterprint"));
      setTimeout(() => { document.body.dataset.after = String(Math.max(...widths()) - before); }, 500);
    """
    document = dom(tmp_path, with_script(page(12, 2), script))
    assert 'data-printed="680rgb(255, 255, 255)"' in document
    assert 'data-after="0"' in document
    assert all(drawn(document))
