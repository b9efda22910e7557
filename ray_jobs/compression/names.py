"""The names of runs that compression makes."""

from pathlib import Path, PurePosixPath
from typing import Literal

Verb = Literal["distill", "prune", "quantize", "chain"]
VERBS: tuple[Verb, ...] = ("distill", "prune", "quantize", "chain")
"""The verbs of `compress` that make runs."""


def result_name(run: str, verb: Verb, recipe: str = "") -> str:
    """The name of the result where the user gives none. `run`: a RUN argument; `recipe`: of a chain, or its file."""
    name = PurePosixPath(run.partition("?")[0].rstrip("/")).name
    match verb:
        case "distill":
            return f"{name}-distilled"
        case "prune":
            return f"{name}-pruned"
        case "quantize":
            return f"{name}-int8"
        case "chain":
            return f"{name}-{Path(recipe).stem}"
