"""Errors of storage, resources and clusters."""


class StorageError(Exception):
    """Storage cannot be read or written (no space, no access, wrong address): value, rule and remedy."""


class StorageOutageError(StorageError):
    """Storage is away for now: not mounted, read-only, not reached. The same call may go well later."""


class StorageBusyError(StorageOutageError):
    """Storage answers that it cannot do it now (503, SlowDown), so its address is right."""


class RunHeldError(StorageError):
    """Another process holds the run's lease."""


class ResourceError(Exception):
    """The job needs more than the machine or cluster has: what it needs and what there is."""


class RayDiedError(Exception):
    """A process of the embedded Ray has ended, and the work with it: which one, and how."""


class RayNotStartedError(RayDiedError):
    """The embedded Ray has not come up: a later try may go well, since nothing was computed that could fail again."""


class SubmissionError(Exception):
    """A cluster refuses a job or another request: value, rule and remedy."""


class NoSuchObjectError(SubmissionError):
    """The cluster has no object of that kind and name."""


class ObjectChangedError(SubmissionError):
    """Another writer was first: the object exists already, or has changed since it was read."""


class TargetUnreachableError(Exception):
    """A cluster has not answered for longer than a restart takes; a later try may succeed."""
