"""Secrets in addresses. A URI is stored, printed and passed on, so none may hold a key, a password or a token."""

import re
from urllib.parse import unquote

from cluster.errors import StorageError

REMEDY = "give it by the environment instead, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
IN_A_PATH = "an @ that is part of a path is written %40"

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(/+)(.*)", re.DOTALL)
_WITH_USER = {"abfs", "abfss", "hdfs", "viewfs", "wasb", "wasbs"}
"""Schemes whose user part is a name that is no secret: Azure's container, Hadoop's user."""
_SECRET_OPTION = re.compile(
    r"secret|token|passw|passphrase|pwd|credential(?!kind)|signature|bearer|jwt|(?<!ssl)key(id)?$"
    r"|^(sig|sas|auth|authorization|pass|pw)$"
)
"""In an option's name, in small letters and digits. `credential_kind` says which kind, `sslkey` names a file."""


def holds_secret(text: str) -> bool:
    """Whether a text is, or ends with, a URI that holds a secret as its user or in its options.

    A secret may hold any character, also those that end a URI's user part ("s3://KEY:se/cret@bucket"): whatever stands
    between a ":" and a later "@" is taken for one.
    """
    found = _URI.search(text)
    if found is None:
        return False
    scheme, slashes, rest = found.groups()
    return _user_is_secret(scheme.lower(), "" if len(slashes) > 2 else rest, rest) or _options_are_secret(rest)


def refuse_credentials(uri: str, setting: str = "the address") -> None:
    """Raises StorageError without repeating the address where it holds a secret. `setting` is what names it."""
    if holds_secret(uri):
        raise StorageError(f"{setting} holds a secret, and addresses are stored and printed; {REMEDY} ({IN_A_PATH})")


def address_without_secret(uri: str) -> str:
    """An address as others may see it; unchanged where it holds no secret."""
    found = _URI.match(uri)
    if found is None or not holds_secret(uri):
        return uri
    scheme, slashes, rest = found.groups()
    if not _options_are_secret(rest):
        return f"{scheme}:{slashes}...@{rest.rpartition('@')[2]}"
    place = re.split(r"[?&;#]", rest, maxsplit=1)[0]
    return f"{scheme}:{slashes}..." if "@" in rest else f"{scheme}:{slashes}{place}?..."


def without_secrets(text: str) -> str:
    """A text with the secrets of the addresses in it replaced by "..."; what follows an address is kept.

    For texts of others, such as errors of a library. Where an address has a secret with white space or quotes in it,
    what stands after those remains: an address of ours is refused instead.
    """
    return re.sub(r"[A-Za-z][A-Za-z0-9+.-]+:/+[^\s'\"<>]+", lambda found: address_without_secret(found[0]), text)


def _user_is_secret(scheme: str, where: str, rest: str) -> bool:
    before, at, _ = rest.rpartition("@")
    if at and ":" in unquote(before):
        return True
    user, at, _ = re.split(r"[/?#\\]", where, maxsplit=1)[0].rpartition("@")
    is_a_name = scheme in _WITH_USER or (scheme in {"gs", "gcs"} and user == "anonymous")
    return bool(at) and not is_a_name


def _options_are_secret(rest: str) -> bool:
    names = (part.partition("=")[0] for part in re.split(r"[?&;#]", rest)[1:])
    return any(_SECRET_OPTION.search(re.sub(r"[^a-z0-9]", "", unquote(unquote(name)).lower())) for name in names)
