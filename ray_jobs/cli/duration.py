"""Lengths of time as people write them: 12h, 30d, 2w."""

import re

from ray_jobs.errors import ConfigError

_SECONDS = {"h": 3600, "d": 86_400, "w": 7 * 86_400}
_FORM = re.compile(r"([1-9][0-9]{0,3})([hdw])")


def seconds_in(text: str, flag: str) -> int:
    """The seconds of a duration. Raises ConfigError, with the flag's name, for a text that is none."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"{flag} {text!r} must be a whole number from 1 to 9999 with h (hours), d (days) or w (weeks); write 12h, "
            "30d or 2w"
        )
    return int(found[1]) * _SECONDS[found[2]]
