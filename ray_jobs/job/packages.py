"""Versions of installed packages."""

from importlib.metadata import PackageNotFoundError, version


def installed_version(package: str) -> str | None:
    """By the wheel's name; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
