"""Command line flags derived from the config tree: each field is described, typed and given its default once, there."""

from collections.abc import Callable, Sequence
from functools import partial
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, Union, get_args, get_origin

from cyclopts import Group, Parameter, Token
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml_codec import UNSET, Tree, merged, toml_value


def job_flags(wanted: Callable[[str], bool] = lambda _: True) -> type:
    """A type for cyclopts with a flag for each field of `JobConfig` whose dotted name is `wanted`.

    A parameter of that type is given a nested dict of the flags that were used, as `read_job` takes it.
    """
    return _flags(JobConfig, "", Group.create_ordered("job"), wanted)


def with_folder(flags: Tree, folder: str | None) -> Tree:
    """The flags with `folder`, a command's first argument, as data.root. Raises ConfigError if a flag names another."""
    named = flags.get("data", {}).get("root")
    if folder is None:
        return flags
    if named is not None and named.rstrip("/") != folder.rstrip("/"):
        raise ConfigError(f"{folder} and --data.root {named} name two folders of images; give one of them")
    return merged(flags, {"data": {"root": folder}})


def _flags(model: type[BaseModel], prefix: str, group: Group, wanted: Callable[[str], bool]) -> type:
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            section = _flags(kind, f"{name}.", Group.create_ordered(name, help=field.description or ""), wanted)
            if section.__annotations__:
                found[name] = section
        elif wanted(prefix + name):
            found[name] = _flag(field, group)
    return TypedDict("JobFlags", found, total=False)  # pyright: ignore[reportUnknownVariableType, reportGeneralTypeIssues, reportArgumentType]


def _flag(field: FieldInfo, group: Group) -> Any:
    kind = _without_none(field.annotation)
    parts: tuple[Any, ...] = get_args(kind) if get_origin(kind) is tuple else (kind,)
    any_number = parts[-1] is Ellipsis
    parts = parts[:1] if any_number else parts
    choices: tuple[str, ...] = get_args(parts[0]) if get_origin(parts[0]) is Literal else ()
    default = "unset" if field.default is None else toml_value(field.default)
    listed = f"{'Any' if any_number else 'One'} of {', '.join(choices)}. " if choices else ""
    text = f"{field.description} {listed}Default: {default}"
    parameter = Parameter(
        group=group,
        help=" ".join(text.split()),
        metavar=None if kind is bool else " ".join("NAME" if choices else _metavar(part) for part in parts),
        consume_multiple=any_number,
        show_default=False,
        converter=partial(_value, field.annotation),
        negative_iterable=(),
    )
    # To cyclopts a value is a text or several: whether it is a right one is for `check` alone to say.
    if any_number:
        return Annotated[tuple[Any, ...], parameter]
    seen = tuple[(Any,) * len(parts)] if len(parts) > 1 else bool if kind is bool else Any  # pyright: ignore[reportGeneralTypeIssues]
    return Annotated[seen, parameter]


def _value(kind: Any, _: object, tokens: Sequence[Token]) -> Any:
    """The typed value where the text can be read as one; the text itself otherwise, for `check` to complain about."""
    if isinstance(tokens[0].implicit_value, bool):
        return tokens[0].implicit_value
    texts = [token.value for token in tokens]
    if texts == [UNSET] and _without_none(kind) is not kind:
        return None
    given = texts if get_origin(_without_none(kind)) is tuple else texts[0]
    try:
        return TypeAdapter[Any](kind).validate_python(given)
    except ValidationError:
        return given


def _without_none(kind: Any) -> Any:
    """T of T | None, else the type itself; without what limits its values."""
    if get_origin(kind) in {Union, UnionType}:
        (kind,) = (each for each in get_args(kind) if each is not NoneType)
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _metavar(kind: Any) -> str:
    return str(_without_none(kind).__name__).upper()


if TYPE_CHECKING:
    JobFlags = dict[str, Any]
    StorageFlags = dict[str, Any]
else:
    JobFlags = job_flags()
    StorageFlags = job_flags(lambda name: name == "storage.root")
