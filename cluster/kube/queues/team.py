"""A team that shares the GPUs: its names, its members, its quotas. Knows no Kubernetes and no torch."""

import re
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cluster.gpu_resource import part_of_gpu

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_MAX_FLAVORS = _MAX_RESOURCES = 64
"""Kueue's limits for one group of resources."""
_MAX_MEMBERS = 1000


def _label(value: str) -> str:
    if len(value) > 63 or not _LABEL.fullmatch(value):
        raise ValueError("must be 1 to 63 lower-case letters, digits or '-', with a letter or digit at both ends")
    return value


def _own_namespace(value: str) -> str:
    if value == "default" or value.startswith("kube-"):
        raise ValueError("belongs to the cluster, and its rules would change for all in it; take one of the team's own")
    return _label(value)


def _subdomain(value: str) -> str:
    if len(value) > 253 or not _SUBDOMAIN.fullmatch(value):
        raise ValueError(
            "must be 1 to 253 lower-case letters, digits, '-' or '.', with a letter or digit at both ends of each part"
        )
    return value


def _subject(value: str) -> str:
    if not value.strip() or len(value) > 1024 or not value.isprintable():
        raise ValueError("must be 1 to 1024 printable characters, as the cluster's login names them")
    return value


def _or_none(value: object) -> object:
    # TOML has no None, and this is the one field that may be unset where its default is something else.
    return None if value == "none" else value


def _weight(value: float) -> float:
    if Decimal(str(value)) % Decimal("0.001"):
        raise ValueError("must have at most three decimals")
    return value


Label = Annotated[str, AfterValidator(_label)]
Subdomain = Annotated[str, AfterValidator(_subdomain)]
Subject = Annotated[str, AfterValidator(_subject)]
Gpus = Annotated[int, Field(ge=0, le=100_000)]
Cpus = Annotated[int, Field(ge=0, le=10_000_000)]
MemoryGib = Annotated[int, Field(ge=0, le=100_000_000)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Amounts(_Section):
    """Limits by resource; what is unset has no limit."""

    gpus: Gpus | None = None
    """GPUs."""
    cpus: Cpus | None = None
    """CPUs."""
    memory_gib: MemoryGib | None = None
    """GiB of memory."""


class Devices(_Section):
    """The team's share of MIG devices of one profile, or of shared GPUs."""

    resource: Annotated[str, AfterValidator(part_of_gpu)]
    """As the nodes offer it: nvidia.com/mig-PROFILE or nvidia.com/gpu.shared."""
    count: Gpus
    """Devices that are the team's own."""
    borrow: Gpus | None = None
    """Most that it may borrow above its own; unset: no limit."""
    lend: Gpus | None = None
    """Most of its own that others may borrow; unset: no limit."""

    @model_validator(mode="after")
    def _lends_its_own(self) -> Self:
        if self.lend is not None and self.lend > self.count:
            raise ValueError(
                f"quota.devices: lend={self.lend} of {self.resource} is more than count={self.count}, the team's own; "
                f"use at most lend = {self.count}"
            )
        return self


class Names(_Section):
    """Who the team is."""

    name: Label
    """The team's name, and that of its queue: `submit --queue NAME`."""
    namespace: Annotated[str, AfterValidator(_own_namespace)] | None = None
    """Its Kubernetes namespace, made if it is not there; unset: the same as the name."""
    cohort: Annotated[Subdomain | None, BeforeValidator(_or_none)] = "resnet-dist"
    """Teams of one cohort lend each other what they do not use; "none": this team neither borrows nor lends."""
    weight: Annotated[float, Field(ge=0.001, le=1000.0), AfterValidator(_weight)] = 1.0
    """Among borrowers, where Kueue runs with fair sharing: 2 may borrow twice as much as 1."""

    @model_validator(mode="after")
    def _name_is_a_namespace(self) -> Self:
        if self.namespace is None:
            try:
                _own_namespace(self.name)
            except ValueError as error:
                raise ValueError(f"team.name={self.name!r} is its namespace, too, which {error}") from error
        return self


class Members(_Section):
    """Who may run jobs in its namespace and see all queues, as the cluster's login names them."""

    users: Annotated[tuple[Subject, ...], Field(max_length=_MAX_MEMBERS)] = ()
    """Users."""
    groups: Annotated[tuple[Subject, ...], Field(max_length=_MAX_MEMBERS)] = ()
    """Groups."""


class Quota(_Section):
    """The team's share of one kind of node. Flavors are tried in the order of the file."""

    flavor: Subdomain
    """A ResourceFlavor that an admin has made: `kubectl get resourceflavors`."""
    gpus: Gpus = 0
    """GPUs that are the team's own: there for it within moments, whoever has borrowed them."""
    cpus: Cpus = 0
    """CPUs that are the team's own; a worker with a GPU takes 4."""
    memory_gib: MemoryGib = 0
    """GiB of memory that are the team's own."""
    devices: tuple[Devices, ...] = ()
    """Parts of GPUs, each with its resource's name: [{ resource = "nvidia.com/mig-1g.10gb", count = 14, borrow = 7 }].
    `borrow` and `lend` stand in the same table."""
    borrow: Amounts = Amounts()
    """Most that it may borrow above its own, such as { gpus = 4 }; what is not named has no limit."""
    lend: Amounts = Amounts()
    """Most of its own that others may borrow; what is not named has no limit."""

    @model_validator(mode="after")
    def _lends_its_own(self) -> Self:
        for resource in Amounts.model_fields:
            lent, own = getattr(self.lend, resource), getattr(self, resource)
            if lent is not None and lent > own:
                raise ValueError(
                    f"quota.lend.{resource}={lent} is more than flavor {self.flavor!r} has of its own; "
                    f"use at most {resource} = {own}"
                )
        return self

    @model_validator(mode="after")
    def _devices_once(self) -> Self:
        names = [each.resource for each in self.devices]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"quota.devices: flavor {self.flavor!r} has {twice[0]} twice; make one table of them with the sum"
            )
        return self


class Preemption(_Section):
    """Which jobs may be stopped for one that waits; they go on from their checkpoints. Kueue's own words."""

    reclaim_within_cohort: Literal["Never", "LowerPriority", "Any"] = "Any"
    """Jobs of other teams on what they borrowed, when this team needs its own: Any takes it back at once; with Never it
    comes back when the borrower's job ends."""
    within_cluster_queue: Literal["Never", "LowerPriority", "LowerOrNewerEqualPriority"] = "LowerPriority"
    """Jobs of this team."""
    borrow_within_cohort: Literal["Never", "LowerPriority"] = "Never"
    """Jobs of other teams, for one that borrows itself. Kueue refuses it together with fair sharing."""

    @model_validator(mode="after")
    def _borrowing_reclaims(self) -> Self:
        if self.reclaim_within_cohort == "Never" and self.borrow_within_cohort != "Never":
            raise ValueError(
                f"preemption.borrow_within_cohort={self.borrow_within_cohort!r} needs reclaim_within_cohort other than "
                '"Never"; use borrow_within_cohort = "Never", or reclaim_within_cohort = "Any"'
            )
        return self


class Storage(_Section):
    """How its jobs reach storage: names of what is in its namespace, never a secret itself."""

    secret: Subdomain | None = None
    """A Secret with the object store's keys as environment variables, such as AWS_ACCESS_KEY_ID."""
    claim: Subdomain | None = None
    """A PersistentVolumeClaim that all nodes can mount."""


class Team(_Section):
    """A team, complete."""

    team: Names
    """Who the team is."""
    members: Members = Members()
    """Who may run jobs in its namespace and see all queues, as the cluster's login names them."""
    quota: Annotated[tuple[Quota, ...], Field(max_length=_MAX_FLAVORS)]
    """The team's share of one kind of node; a [[quota]] for each. They are tried in this order: nodes without GPUs
    first, so that heads of jobs do not sit on nodes with GPUs."""
    preemption: Preemption = Preemption()
    """Which jobs may be stopped for one that waits; they go on from their checkpoints. Kueue's own words."""
    storage: Storage = Storage()
    """How its jobs reach storage: names of what is in its namespace, never a secret itself."""

    @property
    def namespace(self) -> str:
        """Where its jobs run."""
        return self.team.namespace or self.team.name

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the parts of GPUs that any quota has, each once, in the order of the file."""
        return tuple(dict.fromkeys(each.resource for quota in self.quota for each in quota.devices))

    @model_validator(mode="after")
    def _devices_fit(self) -> Self:
        most = _MAX_RESOURCES - len(Amounts.model_fields)
        if len(self.devices) > most:
            raise ValueError(
                f"quota.devices: {len(self.devices)} resources are more than the {most} that Kueue takes beside CPUs, "
                "memory and GPUs; leave some out"
            )
        if self.team.cohort is None:
            for quota in self.quota:
                for each in quota.devices:
                    if each.borrow is not None or each.lend is not None:
                        raise ValueError(
                            f"quota.devices: borrow and lend of {each.resource} in flavor {quota.flavor!r} need a "
                            "cohort, and team.cohort is unset; name one or leave the limits out"
                        )
        return self

    @model_validator(mode="after")
    def _quotas_fit(self) -> Self:
        if not self.quota:
            raise ValueError("quota: a team without a share runs nothing; write a [[quota]] for a flavor")
        flavors = [each.flavor for each in self.quota]
        twice = sorted({name for name in flavors if flavors.count(name) > 1})
        if twice:
            raise ValueError(f"quota.flavor={twice[0]!r} is there twice; make one [[quota]] of them")
        if self.team.cohort is None:
            for each in self.quota:
                for name, limits in (("borrow", each.borrow), ("lend", each.lend)):
                    if limits != Amounts():
                        raise ValueError(
                            f"quota.{name} of flavor {each.flavor!r} needs a cohort, and team.cohort is unset; name "
                            "one or leave the limits out"
                        )
        return self
