"""TOML of any pydantic model: merged, checked with a message for each key, and printed with every key's comment.

A job, a search and a team are each a model; `job/toml.py`, `search/toml.py` and `job/team_toml.py` add what is their
own. Torch-free.
"""

import difflib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from ray_jobs.errors import ConfigError
from ray_jobs.job.credentials import secrets_in_tree

Tree = Mapping[str, Any]
"""A nested table: values by field name, tables by section name."""
Model = TypeVar("Model", bound=BaseModel)

UNSET = "none"
"""The word that unsets a field which may be unset and has another default: TOML has no None."""
_LONGEST = 80


def refuse_secrets(tree: Tree) -> None:
    """Raises ConfigError for addresses that hold a secret. Comes before whatever could repeat a value."""
    if problems := secrets_in_tree(tree):
        raise ConfigError("\n".join(problems))


def merged(base: Tree, top: Tree) -> dict[str, Any]:
    """Two nested trees as one, `top` winning."""
    both = dict(base)
    for key, value in top.items():
        below = both.get(key)
        nested = isinstance(value, Mapping) and isinstance(below, Mapping)
        both[key] = merged(cast("Tree", below), cast("Tree", value)) if nested else value
    return both


def checked(model: type[Model], tree: Tree, *, prefix: str = "", unknown: str = "", missing: str = "") -> Model:
    """The model's value of a tree. Raises ConfigError with a line for each problem: key, value, rule and remedy.

    `prefix` stands before every key; `unknown` ends the message of an unknown key, `missing` that of a missing one.
    """
    try:
        return _validated(model, tree)
    except ValidationError as error:
        problems = [_problem(model, each, prefix, unknown, missing) for each in error.errors()]
    raise ConfigError("\n".join(problems))


def check_each(model: type[BaseModel], tree: Tree) -> None:
    """Check each value of a tree that changes another one, as `checked` does.

    Rules between fields are left out: what they ask about may be in the other tree. Raises ConfigError.
    """
    try:
        _validated(model, tree)
    except ValidationError as error:
        alone = [each for each in error.errors() if not _is_between_fields(each)]
        if alone:
            raise ConfigError("\n".join(_problem(model, each, "", "", "") for each in alone)) from None


def fields_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel], FieldInfo]]:
    """Every field that holds a value: its dotted name ("name", "data.root", ...), its section, itself."""
    for name, field in model.model_fields.items():
        section = _section_of(field)
        if section is None:
            yield f"{prefix}{name}", model, field
        else:
            yield from fields_of(section, f"{prefix}{name}.")


def nearest(key: str, names: Sequence[str]) -> tuple[str, ...]:
    """The dotted names most like a wrong key: in its own section, else anywhere; none where none is alike."""
    key = key.replace("-", "_")
    section, _, last = key.rpartition(".")
    inside = [name for name in names if section and name.startswith(f"{section}.")]
    for candidates in (inside, names):
        lasts = list(dict.fromkeys(name.rpartition(".")[2] for name in candidates))
        alike = difflib.get_close_matches(last, lasts, n=1) or [name for name in lasts if _initials(name) == last]
        if alike:
            return tuple(name for name in candidates if name.rpartition(".")[2] == alike[0])
    return () if inside else tuple(difflib.get_close_matches(key, names, n=1))


def printed(value: BaseModel, comment_of: Callable[[FieldInfo], str]) -> Iterator[str]:
    """The lines of a complete model: its own fields, then a table for each section and for each entry of a list of
    sections. `comment_of` gives the comment above a field."""
    fields = type(value).model_fields
    own = [name for name, field in fields.items() if _section_of(field) is None]
    yield from _fields(value, own, comment_of)
    for name, field in fields.items():
        if name in own:
            continue
        section = getattr(value, name)
        many = isinstance(section, tuple)
        for number, entry in enumerate(cast("tuple[BaseModel, ...]", section) if many else (section,)):
            # The comments above the first entry of a list serve all of them.
            yield from ("", *(_comment(field.description) if number == 0 else ()))
            yield f"[[{name}]]" if many else f"[{name}]"
            yield from _fields(entry, list(type(entry).model_fields), comment_of if number == 0 else None)


def toml_value(value: object) -> str:
    """A TOML value; empty for what is unset. Configs hold booleans, numbers, text, tuples of them, and small tables."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case tuple():
            items = cast("tuple[object, ...]", value)
            return f"[{', '.join(toml_value(UNSET if item is None else item) for item in items)}]"
        case str():
            # JSON's escapes are TOML's, except that TOML also wants DEL escaped.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case BaseModel():
            texts = {name: toml_value(getattr(value, name)) for name in type(value).model_fields}
            pairs = [f"{name} = {text}" for name, text in texts.items() if text]
            return f"{{ {', '.join(pairs)} }}" if pairs else ""
        case _:
            return repr(value)


def _fields(section: BaseModel, names: Sequence[str], comment_of: Callable[[FieldInfo], str] | None) -> Iterator[str]:
    for name in names:
        value, field = getattr(section, name), type(section).model_fields[name]
        if comment_of is not None:
            yield from _comment(comment_of(field))
        if value is None and not field.is_required() and field.default is not None:
            yield f"{name} = {toml_value(UNSET)}"
        elif text := toml_value(value):
            yield f"{name} = {text}"
        else:
            yield f"# {name} = unset"


def _comment(text: str | None) -> list[str]:
    return [f"# {line.strip()}" for line in (text or "").splitlines()]


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a section's field, or of the entries of a list of sections; None for a field with a value."""
    kind = field.annotation
    if get_origin(kind) is tuple:
        kind = get_args(kind)[0]
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _unset(tree: Tree, model: type[BaseModel]) -> dict[str, Any]:
    """The tree with None for UNSET wherever a number, a switch or a choice may be unset."""
    result = dict(tree)
    for name, field in model.model_fields.items():
        value, section = result.get(name), _section_of(field)
        if section is not None:
            if isinstance(value, Mapping):
                result[name] = _unset(cast("Tree", value), section)
        elif value == UNSET and _unset_by_word(field.annotation):
            result[name] = None
    return result


def _unset_by_word(kind: Any) -> bool:
    """Whether a field may be unset and UNSET is no value of its own, such as a name or a choice."""
    kinds = [get_args(each)[0] if get_origin(each) is Annotated else each for each in get_args(kind)]
    choices = [choice for each in kinds if get_origin(each) is Literal for choice in get_args(each)]
    return NoneType in kinds and str not in kinds and UNSET not in choices


def _validated(model: type[Model], tree: Tree) -> Model:
    refuse_secrets(tree)
    # As JSON: strict about types (no "3" or true for 3), and still a list for a tuple.
    return model.model_validate_json(json.dumps(_unset(tree, model), default=str), strict=True)


def _is_between_fields(problem: ErrorDetails) -> bool:
    """Whether a validator of a whole section raised it."""
    return problem["type"] == "value_error" and isinstance(problem["input"], Mapping)


def _problem(model: type[BaseModel], problem: ErrorDetails, prefix: str, unknown: str, missing: str) -> str:
    location, message = problem["loc"], problem["msg"].removeprefix("Value error, ")
    message = f"{message[:1].lower()}{message[1:]}"
    entry = _entry(model, location)
    key = ".".join(str(part) for part in (location[:1] + location[2:] if entry else location) if not _is_internal(part))
    match problem["type"]:
        case "extra_forbidden":
            names = list(_keys(model))
            near = nearest(key, names)
            inside = [name for name in names if name.rpartition(".")[0] == key.rpartition(".")[0]]
            hint = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(inside)}"
            return f"{prefix}{key}: unknown key{entry}; {hint}{unknown}"
        case "missing":
            return f"{prefix}{key}: is missing{entry}; {missing}"
        case "value_error" if _is_between_fields(problem) or key in message:
            return message
        case _:
            return f"{prefix}{key}={_shown(problem['input'])}: {message}{entry}"


def _entry(model: type[BaseModel], location: Sequence[str | int]) -> str:
    """Which entry of a list of sections a problem is in, counted as a person does; empty for other problems."""
    match location:
        case [str() as name, int() as number, *_] if _section_of(model.model_fields[name]) is not None:
            return f" ([[{name}]] number {number + 1})"
        case _:
            return ""


def _is_internal(part: str | int) -> bool:
    """pydantic puts the tried type of a union, such as "constrained-int" or "literal['a','b']", into the path."""
    return not str(part).replace("_", "").isalnum() or part in {"bool", "int", "float", "str"}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key that a file may have: of fields, and of sections before their fields."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        if (section := _section_of(field)) is not None:
            yield from _keys(section, f"{prefix}{name}.")


def _initials(name: str) -> str:
    return "".join(word[:1] for word in name.split("_"))
