"""Variables are for a while only, and what was there before comes back, whatever happens within."""

import os

import pytest

from cluster.session.environment import environment, environment_defaults


def test_values_hold_within_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RD_SET", "before")
    monkeypatch.setenv("RD_GONE", "before")
    monkeypatch.delenv("RD_NEW", raising=False)

    def interrupted() -> None:
        with environment({"RD_SET": "within", "RD_GONE": None, "RD_NEW": "within"}):
            assert (os.environ["RD_SET"], os.environ["RD_NEW"], "RD_GONE" in os.environ) == ("within", "within", False)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (os.environ["RD_SET"], os.environ["RD_GONE"], "RD_NEW" in os.environ) == ("before", "before", False)


def test_defaults_leave_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RD_SET", "before")
    monkeypatch.delenv("RD_NEW", raising=False)
    with environment_defaults({"RD_SET": "default", "RD_NEW": "default"}):
        assert (os.environ["RD_SET"], os.environ["RD_NEW"]) == ("before", "default")
    assert (os.environ["RD_SET"], "RD_NEW" in os.environ) == ("before", False)
