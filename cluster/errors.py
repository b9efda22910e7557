"""What goes wrong where a job runs."""


class StorageError(Exception):
    """Storage cannot be read or written (no space, no access, wrong address): value, rule and remedy."""


class RunHeldError(StorageError):
    """Another process holds the run's lease."""


class ResourceError(Exception):
    """The job asks for more than the machine or cluster has: what was asked and what is there."""


class SubmissionError(Exception):
    """A cluster refuses a job, or cannot do what was asked: value, rule and remedy."""


class NoSuchObjectError(SubmissionError):
    """The cluster has no object of that kind and name."""


class ObjectChangedError(SubmissionError):
    """Another writer was first: the object exists already, or has changed since it was read."""


class TargetUnreachableError(Exception):
    """A cluster does not answer, for longer than its restart takes; another try may find it."""
