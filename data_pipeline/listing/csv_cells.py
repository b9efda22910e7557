"""Text in the cells of CSV files that people open in a spreadsheet, which would take some of it for formulas.

A spreadsheet computes a cell that begins with =, +, -, @, a tab or a line break, and such a formula can send what other
cells hold or start a program. Our files have an apostrophe before such text, and what we read loses it again. Numbers
and single signs stay as they are, and so does every other text, also one with an apostrophe of its own.
"""

import re

_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""What text begins with that is written with one apostrophe more: also such text that already has some. The last four
are the wide forms of the signs, which some spreadsheets take for them."""
_HARMLESS = re.compile(r"[+-](\d+(\.\d*)?([eE][+-]?\d+)?)?", re.ASCII)


def safe_cell(text: str) -> str:
    """The cell of a text."""
    return f"'{text}" if _is_formula(text) else text


def cell_text(cell: str) -> str:
    """The text that `safe_cell` made a cell of; any other cell as it is."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell[1:]) else cell


def _is_formula(text: str) -> bool:
    return _FORMULA.match(text) is not None and _HARMLESS.fullmatch(text) is None
