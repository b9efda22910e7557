"""Whatever a job, a search or a team file holds, it is read or refused with a ConfigError."""

import random
from pathlib import Path

import pytest

from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.team_toml import example_team, print_team, read_team_text
from ray_jobs.job.toml import print_config, read_job, read_job_text
from ray_jobs.job.toml_file import MOST_BYTES, MOST_DEPTH, parsed
from ray_jobs.search.toml import print_search, read_search, read_search_text
from tests.fuzzing import bounded_memory, cases, damaged, fuzz

WORDS = tuple(
    word.encode()
    for word in (
        *(
            "=",
            "[",
            "]",
            "[[",
            "{",
            "}",
            ",",
            ".",
            '"',
            "'",
            '"""',
            "#",
            "\n",
            "\r",
            "\0",
            "\ufeff",
            "\x1b[31m",
            "none",
            "nan",
        ),
        *(
            "inf",
            "-inf",
            "1e999",
            "-0",
            "0x" + "f" * 50,
            "9" * 20,
            "9" * 5000,
            "1_000",
            "1979-05-27",
            "07:32:00",
            "true",
        ),
        *(
            "a = " + "[" * 3000,
            "a = " + "{a=" * 3000,
            "a." * 40 + "a = 1",
            "[" + "a." * 40 + "a]",
            '"x".' * 40 + "x = 1",
        ),
        *(
            "[data]",
            "[space]",
            "[[data]]",
            "data.root = 1",
            "root = []",
            "[training]\nepochs = 3",
            "\\ud800",
            '"\\u0000"',
        ),
        *(
            '"\\U0010ffff"',
            "'''",
            "= 3 # \u202e",
            "choices = [1, 2]",
            "log_uniform = [1e-4, 1e400]",
            'when = { a = "b" }',
        ),
    )
)


def job() -> bytes:
    return print_config(JobConfig()).encode()


def search() -> bytes:
    return print_search(*read_search(None, {})).encode()


def team() -> bytes:
    return print_team(example_team("vision")).encode()


@pytest.mark.parametrize(("kind", "share"), [("job", 1.0), ("search", 0.6), ("team", 0.4)])
def test_a_file_is_read_or_refused(kind: str, share: float):
    read = {"job": read_job_text, "search": read_search_text, "team": read_team_text}[kind]
    whole = {"job": job, "search": search, "team": team}[kind]()
    short = b"\n".join(line for line in whole.splitlines() if not line.startswith(b"#"))

    def make(chance: random.Random) -> str:
        # As read_toml does: what is no UTF-8 is refused before.
        return damaged(chance, short, WORDS, most=3).decode("utf-8", "ignore")

    numbers = cases(round(150 * share), round(10_000 * share))
    good = fuzz(f"toml {kind}", numbers, make, lambda text: read(text, "job.toml"), ConfigError)
    assert 0 < good < len(numbers)


HOSTILE = {
    "lists": "a = " + "[" * 100_000,
    "tables": "a = " + "{a=" * 100_000,
    "a key": "a." * 100_000 + "a = 1",
    "a quoted key": '"a" . ' * 100_000 + "a = 1",
    "a table's key": "[" + "a." * 100_000 + "a]",
    "tables of tables": "".join(f"[{'a.' * depth}a]\n" for depth in range(200)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_nests_too_deeply_is_refused_before_it_fills_memory(what: str):
    with (
        bounded_memory(2**28),
        pytest.raises(ConfigError, match=f"^job.toml is nested too deeply.*{MOST_DEPTH} levels"),
    ):
        parsed(HOSTILE[what], "job.toml")


@pytest.mark.parametrize("depth", [1, MOST_DEPTH])
def test_what_nests_less_is_read(depth: int):
    assert parsed("a = " + "[" * (depth - 1) + "]" * (depth - 1) + "1" * (depth == 1), "job.toml")
    assert parsed(".".join(["a"] * depth) + " = 1", "job.toml")


@pytest.mark.parametrize("number", ["9" * 19, "-" + "9" * 19, "0x" + "f" * 100_000, "9" * 5000])
def test_a_number_that_no_field_can_hold_is_refused(number: str):
    with pytest.raises(ConfigError, match=r"^job.toml"):
        parsed(f"[training]\nepochs = {number}", "job.toml")


def test_a_value_that_holds_dots_is_no_long_key():
    text = f'root = "{"a." * 20}"\nvalues = [{"0.5, " * 1000}]\n'
    assert parsed(text, "job.toml")["values"] == [0.5] * 1000


def test_an_endless_file_is_refused(tmp_path: Path):
    (tmp_path / "long.toml").write_bytes(b"#" * (MOST_BYTES + 1))
    for path in (Path("/dev/zero"), tmp_path / "long.toml"):
        with bounded_memory(2**28), pytest.raises(ConfigError, match=f"{path} has more than the {MOST_BYTES} bytes"):
            read_job(path, {})
    (tmp_path / "long.toml").write_bytes(b"#" * MOST_BYTES)
    assert read_job(tmp_path / "long.toml", {}) == read_job(None, {})
