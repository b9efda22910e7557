"""Hostile input from seeds: what a fuzzer needs to damage bytes, texts and JSON, and to say which case it was.

A fuzzer is a test over `cases`. Its quick profile tries some hundreds in a second or so, the thorough one (`make
test-all`) all of its share of 10^5. A case is a function of the fuzzer's name and the case's number, so that the number
in a failure's message repeats it.
"""

import json
import random
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import settings

MOST_S = 20.0
"""A case may take so long, on a machine that is busy with other tests."""
MOST_SAID = 20_000
"""Characters of a message."""
MOST_MEMORY = 2 * 2**30
"""Of address space, beyond what the process had."""

_RAW = "\x00raw:"
# JSON texts that parse into something extreme, or not at all.
HOSTILE_JSON = (
    *(
        "null",
        "true",
        "-1",
        "0",
        "1.5",
        "1e999",
        "-1e999",
        "1e-999",
        "NaN",
        "Infinity",
        "9" * 19,
        "9" * 30,
        "-" + "9" * 400,
    ),
    *(
        "9" * 5000,
        '""',
        '"\\ud800"',
        '"\\u0000"',
        '"nan"',
        '"inf"',
        '"' + "x" * 5000 + '"',
        "[]",
        "{}",
        "[[]]",
        '{"": {}}',
    ),
    *("[" * 20 + "]" * 20, "[" * 2000 + "]" * 2000, '{"a":' * 2000 + "1" + "}" * 2000, "[" * 100_000, "'", "\\"),
    *('"../../etc/passwd"', '"/etc/passwd"', '"a/b"', '"\\u202e\\u001b[31m"', '"=1+1"', "[1, 2, 3]", '["a", "a"]'),
)


def cases(quick: int, thorough: int) -> range:
    """The numbers of a fuzzer's cases: how many each of the two profiles tries."""
    return range(thorough if settings.default.max_examples >= 200 else quick)


def fuzz(
    name: str,
    numbers: range,
    make: Callable[[random.Random], Any],
    read: Callable[[Any], object],
    allowed: type[Exception] | tuple[type[Exception], ...] = (),
) -> int:
    """Read each case that `make` draws. Returns how many could be read.

    Fails where reading raises another exception than those that are `allowed`, an empty or many-paged message, or takes
    too long or too much memory.
    """
    good = 0
    with bounded_memory():
        for number in numbers:
            case = make(random.Random(f"{name} {number}"))
            began, said = time.monotonic(), "read"
            try:
                read(case)
                good += 1
            except allowed as error:
                said = str(error)
            except BaseException as error:
                raise AssertionError(f"{name} {number}: {type(error).__name__}: {error} for {_shown(case)}") from error
            seconds = time.monotonic() - began
            assert said.strip(), f"{name} {number}: an error without a message for {_shown(case)}"
            assert len(said) < MOST_SAID, f"{name} {number}: a message of {len(said)} characters for {_shown(case)}"
            assert seconds < MOST_S, f"{name} {number}: {seconds:.1f} s for {_shown(case)}"
    return good


@contextmanager
def bounded_memory(most: int = MOST_MEMORY) -> Iterator[None]:
    """Within, asking for more than so many bytes more is a MemoryError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def damaged(chance: random.Random, data: bytes, words: Sequence[bytes] = (), most: int = 4) -> bytes:
    """The bytes after one to `most` accidents, or attacks: `words` are what they are likely to put in."""
    for _ in range(chance.randint(1, most)):
        at, length = chance.randrange(len(data) + 1), chance.choice((1, 1, 2, 4, 16, 100))
        match chance.randrange(8):
            case 0 if data:  # a bit
                at = chance.randrange(len(data))
                data = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
            case 1 if data:  # a byte
                at = chance.randrange(len(data))
                data = data[:at] + bytes([chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))]) + data[at + 1 :]
            case 2:
                data = data[:at]
            case 3:
                data = data[:at] + data[at + length :]
            case 4:
                data = data[:at] + data[at : at + length] * chance.choice((2, 3, 50)) + data[at + length :]
            case 5:
                data = data[:at] + chance.randbytes(length) + data[at:]
            case 6 if words:
                word = chance.choice(words)
                data = data[:at] + word + data[at + chance.choice((0, len(word))) :]
            case _:  # a part of it somewhere else
                start = chance.randrange(len(data) + 1)
                data = data[:at] + data[start : start + length] + data[at + length :]
    return data


def damaged_json(chance: random.Random, value: Any, most: int = 3) -> str:
    """A JSON text of a value in which one to `most` parts are missing, more, or extreme."""
    value = json.loads(json.dumps(value))
    for _ in range(chance.randint(1, most)):
        value = _changed(chance, value)
    text = json.dumps(value)
    while _RAW_AT in text:  # what no JSON value gives: put in as text
        before, _, rest = text.partition(_RAW_AT)
        number, _, after = rest.partition('"')
        text = before + HOSTILE_JSON[int(number)] + after
    return text


_RAW_AT = json.dumps(_RAW)[:-1]


def _changed(chance: random.Random, value: Any) -> Any:
    """The value with something at a random place of it replaced, removed or added."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(list(value))
        match chance.randrange(6):
            case 0:
                return {name: each for name, each in value.items() if name != key}
            case 1:
                return {
                    **value,
                    chance.choice(("x", "", key.upper(), "schema", "sha256", "a" * 3000)): _hostile(chance),
                }
            case _:
                return {**value, key: _changed(chance, value[key])}
    if isinstance(value, list) and value and chance.random() < 0.85:
        at = chance.randrange(len(value))
        match chance.randrange(6):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return [*value[:at], value[at], *value[at:]]
            case _:
                return [*value[:at], _changed(chance, value[at]), *value[at + 1 :]]
    return _hostile(chance)


def _hostile(chance: random.Random) -> str:
    return f"{_RAW}{chance.randrange(len(HOSTILE_JSON))}"


def _shown(case: object) -> str:
    text = repr(case)
    return text if len(text) < 2000 else f"{text[:2000]}... of {len(text)} characters"
