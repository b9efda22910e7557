"""A team's TOML file, read and written. Torch-free."""

from pathlib import Path
from typing import get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from cluster.kube.queues.team import Amounts, Members, Names, Quota, Storage, Team
from ray_jobs.errors import ConfigError
from ray_jobs.job.toml_codec import Tree, checked, printed, toml_value
from ray_jobs.job.toml_file import parsed, read_toml


def read_team(path: Path, name: str) -> Team:
    """The team of a TOML file, which must be that of `name`. Raises ConfigError for every problem by its key."""
    remedy = f"`resnet-dist queue create {name} --print-team` prints one"
    team = _checked(read_toml(path, "--config", remedy))
    if team.team.name != name:
        raise ConfigError(f"{path}: team.name={team.team.name!r} is not {name!r}; give the file of that team")
    return team


def read_team_text(text: str, source: str) -> Team:
    """The team of a TOML text that came from `source`. Raises ConfigError."""
    return _checked(parsed(text, source))


def example_team(name: str) -> Team:
    """A team as it might be, to begin with. Raises ConfigError for a name that no team can have."""
    try:
        names = Names(name=name)
    except ValidationError as error:
        (problem,) = error.errors()
        raise ConfigError(f"team {name!r}: {str(problem['msg']).removeprefix('Value error, ')}") from error
    return Team(
        team=names,
        members=Members(groups=(name,)),
        quota=(
            Quota(flavor="cpu", cpus=32, memory_gib=128),
            Quota(flavor="a100", gpus=4, cpus=32, memory_gib=256, borrow=Amounts(gpus=4)),
        ),
        storage=Storage(secret="resnet-dist-storage"),  # noqa: S106 - its name
    )


def print_team(team: Team) -> str:
    """The complete team as TOML, every key with its description and default; reading it gives the same team."""
    lines = ["# A complete team. Keys that are commented out are unset.", *printed(team, _comment)]
    return "\n".join(lines) + "\n"


def _comment(field: FieldInfo) -> str:
    words = [each for each in get_args(field.annotation) if isinstance(each, str)]
    choices = f" One of {', '.join(words)}." if words else ""
    default = "" if field.is_required() else f" Default: {toml_value(field.default) or 'unset'}."
    return f"{field.description}{choices}{default}"


def _checked(tree: Tree) -> Team:
    return checked(Team, tree, missing="`resnet-dist queue create TEAM --print-team` prints a complete file")
