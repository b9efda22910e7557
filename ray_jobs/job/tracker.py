"""Configuration of the tracker that a run reports to. Imports neither torch, ray nor a tracker."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ray_jobs.job.credentials import secrets_in_tree


class TrackerConfig(BaseModel):
    """Where metrics are shown besides the run directory. A tracker that fails never stops a run."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"identity": False},
        hide_input_in_errors=True,  # the value may be an address with a secret in it
    )

    kind: Literal["none", "wandb", "tensorboard", "mlflow"] = "none"
    """none; Weights & Biases (offline when no key is set); TensorBoard (event files in the run directory); MLflow."""
    project: str = "resnet-dist"
    """wandb's project or MLflow's experiment."""
    uri: str | None = None
    """MLflow's tracking URI; unset: MLFLOW_TRACKING_URI, else a database in the run directory, if that is a folder. A
    database server, such as PostgreSQL, must have the experiment already, which says where artifacts go."""
    group: str = ""
    """wandb's group of the run; a search sets it to its own name."""
    tags: tuple[str, ...] = ()
    """Tags of the run."""
    capture: tuple[Literal["console", "code", "system"], ...] = ()
    """What wandb may send besides metrics: the console's text, the code, the machine's load; by default nothing."""
    finish_s: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = 15.0
    """Seconds that the end of a run waits at most for the tracker to take what is left."""

    @field_validator("uri")
    @classmethod
    def _uri_holds_no_secret_and_is_absolute(cls, uri: str | None) -> str | None:
        # The value itself is not repeated: it would end up in a log.
        if problems := secrets_in_tree({"tracker": {"uri": uri}}):
            raise ValueError(*problems)
        if uri is not None:
            refuse_relative("tracker.uri", uri)
        return uri


def refuse_relative(name: str, uri: str) -> None:
    """Raises ValueError for a path that is another one in each worker's folder."""
    parts = urlsplit(uri)
    if parts.scheme.partition("+")[0] == "sqlite":
        is_everywhere = not parts.netloc and parts.path.startswith("//")  # after the three slashes, a fourth
    else:
        is_everywhere = parts.scheme not in {"", "file"} or parts.path.startswith("/") or uri == "databricks"
    if not is_everywhere:
        raise ValueError(
            f"{name}={uri!r} is no absolute path, and each worker runs in a folder of its own; write it in full, such "
            "as sqlite:////home/me/mlflow.db, or name a server such as http://host:5000"
        )
