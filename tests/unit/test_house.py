"""Files and functions stay short enough to be read at once. Ruff limits branches (C901) and parameters (PLR0913)."""

import ast
import io
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("cluster", "data_pipeline", "ray_jobs", "resnet_dist", "benchmarks", "examples")
FILE_LINES = 300
FUNCTION_LINES = 60

LONG_FILES: dict[str, str] = {}
"""A longer file and why it is one."""

LONG_FUNCTIONS: dict[str, str] = {}
"""A longer function, "path:name", and why it is one."""

NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip


def code_lines(source: str) -> set[int]:
    """Numbers of the lines that hold more than a comment."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        number for token in tokens if token.type not in NO_CODE for number in range(token.start[0], token.end[0] + 1)
    }


def long_functions(source: str, limit: int, *, flags: bool = False) -> dict[str, int]:
    """Functions of more lines of code than `limit`, without docstrings; with `flags`, without parameters, too."""
    lines = code_lines(source)
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            first = body[0].lineno if body else node.end_lineno or node.lineno
            counted = {line for line in lines if first <= line <= (node.end_lineno or 0)}
            if not flags:
                counted |= {line for line in lines if node.lineno <= line < node.body[0].lineno}
            if len(counted) > limit:
                found[node.name] = len(counted)
    return found


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def test_no_file_is_long() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in sources()}
    assert len(lengths) > 200, "the sources were not found"
    assert {name: lines for name, lines in lengths.items() if lines > FILE_LINES and name not in LONG_FILES} == {}
    assert [name for name in LONG_FILES if lengths.get(name, 0) <= FILE_LINES] == [], "no exception is needed"


def test_no_function_is_long() -> None:
    found = {}
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        functions = long_functions(path.read_text(), FUNCTION_LINES, flags=name.startswith("ray_jobs/cli/"))
        found |= {f"{name}:{function}": lines for function, lines in functions.items()}
    assert {name: lines for name, lines in found.items() if name not in LONG_FUNCTIONS} == {}
    assert [name for name in LONG_FUNCTIONS if name not in found] == [], "no exception is needed"


FUNCTION = '''
def outer(
    first,
    second,
):
    """Three
    lines
    of text."""
    # A reason.

    text = """one
    two"""
    def inner():
        return text
    return inner
'''


@pytest.mark.parametrize(("limit", "flags", "names"), [(8, False, {"outer"}), (9, False, set()), (4, True, {"outer"})])
def test_code_is_counted_and_neither_text_nor_reasons(limit: int, flags: bool, names: set[str]) -> None:
    assert long_functions(FUNCTION, limit, flags=flags).keys() == names
