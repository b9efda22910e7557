"""How many examples a law is tried on."""

from hypothesis import settings


def examples(share: float) -> int:
    """A share of the profile's examples, for a law whose examples cost more than most: never fewer than five."""
    return max(5, round(share * settings.default.max_examples))
