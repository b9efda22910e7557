"""What a RUN, SEARCH or BUNDLE argument is: a path, a URI, or a bare name under `storage.root`."""

from pathlib import Path

RUNS = "runs"
"""The folder of runs under a storage root."""


def names_a_place(argument: str) -> bool:
    """Whether it is a path or a URI, and not a bare name.

    A path has a slash. What lies in the working directory does not matter: a folder that happens to have the name of a
    run never takes its place.
    """
    return "/" in argument or argument in {".", ".."}


def root_and_name(uri: str) -> tuple[str, str] | None:
    """Storage root and name of the run at a URI; None of a run that does not lie under one."""
    place, mark, options = uri.partition("?")
    folder, runs, name = place.rstrip("/").rpartition(f"/{RUNS}/")
    return (f"{folder}{mark}{options}", name) if runs and folder and name and not names_a_place(name) else None


def hint_at_folder(argument: str) -> str:
    """For the message that a bare name was not found: how to name the folder that lies here under that name."""
    return f"; for the folder {argument} here give ./{argument}" if Path(argument).is_dir() else ""
