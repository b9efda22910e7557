"""JSON files that hold their own SHA-256, so that one changed digit in them is detected."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from resnet_dist.plain_json import parsed_object


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """A JSON file. Raises ValueError for NaN and infinity, which JSON does not have, and for a value too deep."""
    try:
        return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def sealed(value: Mapping[str, Any]) -> bytes:
    """A JSON file with the SHA-256 of what it would be without it."""
    return json_bytes({**value, "sha256": hashlib.sha256(json_bytes(value)).hexdigest()})


def unsealed(data: bytes) -> dict[str, Any]:
    """The value that `sealed` made a file of. Raises ValueError, with the reason, for any other file."""
    value = parsed_object(data)
    without = {key: item for key, item in value.items() if key != "sha256"}
    if sealed(without) != data:
        raise ValueError("its own hash does not fit")
    return without


def unsealed_if_sealed(data: bytes) -> dict[str, Any]:
    """As `unsealed`, for a kind of file that was not sealed always: one that holds no SHA-256 is taken as it is."""
    value = parsed_object(data)
    return unsealed(data) if "sha256" in value else value
