"""What `resnet-dist submit` is given: a command with its job, and where in a shared pool it goes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cluster.jobs import Verb
from cluster.kube.jobs.names import check_image, check_label
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check, only_fields
from ray_jobs.job.toml_codec import Tree, merged, refuse_secrets
from ray_jobs.job.verb_fields import of_place
from ray_jobs.search.config import SearchConfig
from ray_jobs.search.space import Space


@dataclass(frozen=True)
class SubmitCommand:
    """A command of `resnet-dist` that runs on a cluster. Raises ConfigError where anything in it holds a secret: all of
    it becomes objects that others can read."""

    verb: Verb
    job: JobConfig
    """The whole job; for commands on a run, the overrides with defaults for the rest."""
    search: tuple[SearchConfig, Space] | None = None
    """For tune."""
    warm_start: str | None = None
    """For tune."""
    run: str = ""
    """For evaluate, export and compress."""
    options: tuple[str, ...] = ()
    """For evaluate, export and compress, also for an export after train: words of the command line besides the run; of
    compress the first is its own verb."""
    then: Literal["export"] | None = None
    """For train: what the same job does with the run when it is trained."""
    overrides: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """For evaluate, export and compress: what differs from the run's own job."""

    def __post_init__(self) -> None:
        data = self.job.data
        if self.then is not None and data.folds is not None and data.fold is None:
            raise ConfigError(
                f"--then {self.then} takes one run, and data.folds={data.folds} trains as many; name one with "
                f"data.fold, or remove --then {self.then}"
            )
        words = {"the run": self.run, "an option": self.options, "--warm-start": self.warm_start}
        refuse_secrets({**words, **self.job.model_dump()})
        refuse_secrets(self.overrides)


_SIZES_PODS = {"data.image_size", "data.image_width", "training.microbatch_size"}


def words_of(flags: Mapping[str, object]) -> tuple[str, ...]:
    """Words of the command line for flags with a value; a switch that is on is its flag alone."""
    given = {flag: value for flag, value in flags.items() if value is not None and value is not False}
    return tuple(str(word) for flag, value in given.items() for word in ((flag,) if value is True else (flag, value)))


def on_compressed(verb: str, run: str, options: Sequence[str], changes: Tree) -> SubmitCommand:
    """`compress VERB RUN` with what it changes of the run's own job.

    Of that, only what says where it runs and how large its pods are is checked as a job: the rest depends on the run,
    which this machine may not see. Raises ConfigError.
    """
    known = only_fields(changes, lambda name: of_place(name) or name in _SIZES_PODS)
    if size := known.get("training", {}).get("microbatch_size"):
        known = merged(known, {"training": {"global_batch_size": size}})
    return SubmitCommand("compress", check(known), run=run, options=(verb, *options), overrides=changes)


@dataclass(frozen=True)
class PoolFlags:
    """Where in a shared pool a job goes, as the command line names it."""

    team: str | None = None
    namespace: str | None = None
    queue: str | None = None
    priority: str | None = None
    image: str | None = None
    context: str | None = None

    def check_none_given(self, address: str) -> None:
        """Raise ConfigError where a flag is about Kubernetes and the job goes to a running Ray."""
        given = [f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value is not None]
        if given:
            raise ConfigError(
                f"{', '.join(given)}: for jobs on Kubernetes, and cluster.address={address} is a running Ray; remove "
                "either"
            )

    def checked(self) -> "PoolFlags":
        """With the team's namespace and queue filled in. Raises SubmissionError for a name that Kubernetes refuses."""
        for flag, value in (
            ("--team", self.team),
            ("--namespace", self.namespace),
            ("--queue", self.queue),
            ("--priority", self.priority),
        ):
            if value is not None:
                check_label(value, flag)
        if self.image is not None:
            check_image(self.image)
        if self.priority is not None and self.queue is None and self.team is None:
            raise ConfigError(f"--priority {self.priority} orders jobs of a queue; name it with --team or --queue")
        return replace(self, namespace=self.namespace or self.team, queue=self.queue or self.team)
