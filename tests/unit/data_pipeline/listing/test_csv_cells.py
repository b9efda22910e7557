"""No spreadsheet computes our text, and we read what we wrote."""

import csv
from io import StringIO

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_pipeline.listing.csv_cells import cell_text, safe_cell

# What a spreadsheet may take for a formula, and what a person writes.
TEXTS = st.text(st.sampled_from("'=+-@\t\r\n\uff1d1e.x,\"; ")) | st.text()


@given(TEXTS)
@example("'=1")
@example("''")
@example("-")
@example("\r\n")
def test_a_text_comes_back_from_its_cell(text: str):
    assert cell_text(safe_cell(text)) == text


@given(TEXTS)
def test_no_cell_is_a_formula(text: str):
    cell = safe_cell(text)
    if cell.startswith(("+", "-")) and len(cell) > 1:
        float(cell)
    else:
        assert not cell.startswith(("=", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"))


@given(st.text(st.characters(exclude_characters="=+-@\t\r\n\uff1d\uff0b\uff0d\uff20", codec="utf-8")))
def test_other_text_is_its_own_cell_and_is_read_as_it_is(text: str):
    assert safe_cell(text) == cell_text(text) == text


@pytest.mark.parametrize("text", ["-1", "+1", "-1.5", "+2.", "-1e3", "-1E-3", "-", "+", "a=1", "'s", "it's", "", "1"])
def test_numbers_and_signs_stay(text: str):
    assert safe_cell(text) == text


@pytest.mark.parametrize("text", ["=1", "+1+1", "--1", "-x.png", "@SUM(A1)", "@eaDir/x", "'=1", "-\u0661", "-1\n"])
def test_a_formula_gets_an_apostrophe(text: str):
    assert safe_cell(text) == f"'{text}"


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_a_record_comes_back_through_a_csv_file(texts: list[str]):
    file = StringIO(newline="")
    csv.writer(file).writerow(map(safe_cell, texts))
    file.seek(0)
    ((*cells,),) = csv.reader(file, strict=True)
    assert [cell_text(cell) for cell in cells] == texts
