"""Durations as people write them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.cli.duration import seconds_in
from ray_jobs.errors import ConfigError


@pytest.mark.parametrize(("text", "hours"), [("12h", 12), ("30d", 720), ("2w", 336), ("9999w", 9999 * 168)])
def test_hours_days_and_weeks(text: str, hours: int) -> None:
    assert seconds_in(text, "--since") == hours * 3600


@pytest.mark.parametrize(
    "text", ["", "d", "30", "0d", "-1d", "1.5d", "1 d", "30D", "1m", "10000d", "1d\n", "\u0663d", "1\u0663d"]
)
def test_others_are_refused_with_value_rule_and_remedy(text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"--since {text!r} must be") + ".* write 12h, 30d or 2w"):
        seconds_in(text, "--since")


@given(st.text().filter(lambda text: not re.fullmatch(r"[1-9][0-9]{0,3}[hdw]", text)))
def test_no_other_text_is_read(text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(repr(text))):
        seconds_in(text, "--since")
