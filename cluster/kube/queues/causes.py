"""Kueue's reasons in a few words. Its own message names every flavor that was tried, over and over."""

import re
from fractions import Fraction

from cluster.kube.queues.quantities import MEMORY, in_units, in_words, parsed

_MOST = 90
"""Letters of a reason that is not one of those below."""
_MOST_READ = 4096
"""Letters of a message that are read: its first cause stands at its begin, and a search in long ones takes long."""
_MORE = re.compile(r"insufficient unused quota for (\S+) in flavor (\S+), (\S+) more needed")
_NEVER = re.compile(
    r"insufficient quota for (\S+) in flavor (\S+),.*?(?:(?:requests \((\S+)\) \+ .*?)?podset request \((\S+)\) )?"
    r"> maximum capacity \((?:(\S+) > )?(\S+)\)"
)
_PREEMPTED = re.compile(r"Preempted to accommodate a workload .*?due to (.+)")


def cause_of(message: str) -> str:
    """The first cause that a message of Kueue names, in a line; the message's begin where it is none that is known."""
    text = " ".join(message[:_MOST_READ].split())
    if found := _NEVER.search(text):
        resource, flavor, before, of_pod_set, in_all, most = found.groups()
        asked, there = _amount(resource, of_pod_set or in_all or "more", before or "0"), _number(resource, most)
        return f"it will never start here: asks for {asked} of {flavor}, and there are {there}"
    if found := _MORE.search(text):
        resource, flavor, lacking = found.groups()
        return f"{_amount(resource, lacking)} more of {flavor} are needed"
    if found := _PREEMPTED.search(text):
        return f"preempted: {_short(found[1])}"
    return _short(text)


def _amount(resource: str, quantity: str, more: str = "0") -> str:
    """The sum of two quantities."""
    amount, other = _parsed(quantity), _parsed(more)
    return f"{quantity} {resource}" if amount is None else in_words(resource, amount + (other or 0))


def _number(resource: str, quantity: str) -> str:
    amount = _parsed(quantity)
    return quantity if amount is None else f"{in_units(resource, amount):g}{' GiB' if resource == MEMORY else ''}"


def _parsed(quantity: str) -> Fraction | None:
    try:
        return parsed(quantity)
    except ValueError:
        return None


def _short(text: str) -> str:
    return text if len(text) <= _MOST else f"{text[: _MOST - 3]}..."
