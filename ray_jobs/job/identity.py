"""What makes two starts the same run: what changes the trained weights, and nothing of where they are computed."""

from typing import Any, cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ray_jobs.job.config import JobConfig


def identity(job: JobConfig, fingerprint: str) -> dict[str, Any]:
    """The identity's fields by dotted name with plain values, and the data's fingerprint."""
    return {"data fingerprint": fingerprint, **_identity_of(job, "")}


def completed(stored: dict[str, Any]) -> dict[str, Any]:
    """A stored identity with the defaults of fields that the version which stored it did not have."""
    return {**_identity_of(JobConfig(), ""), **stored}


def difference(stored: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """A line for each field in which two identities differ: "optimizer.learning_rate: 0.01 -> 0.05"."""
    return [
        f"{key}: {stored.get(key, 'absent')} -> {wanted.get(key, 'absent')}"
        for key in sorted(stored.keys() | wanted.keys())
        if stored.get(key, "absent") != wanted.get(key, "absent")
    ]


def belongs(section: type[BaseModel], field: FieldInfo) -> bool:
    """Whether a field belongs to the identity: what it says itself, else what its section says."""
    own = _said(field.json_schema_extra)
    declared = own if own is not None else _said(section.model_config.get("json_schema_extra"))
    if declared is None:
        raise ValueError(f"{section.__name__} does not say whether its fields belong to a run's identity")
    return declared


def _said(extra: object) -> bool | None:
    return cast("dict[str, bool]", extra).get("identity") if isinstance(extra, dict) else None


def _identity_of(section: BaseModel, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            found |= _identity_of(value, f"{prefix}{name}.")
        elif belongs(type(section), field):
            found[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return found
