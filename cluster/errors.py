"""What goes wrong where a job runs."""


class StorageError(Exception):
    """Storage cannot be read or written (no space, no access, wrong address): value, rule and remedy."""


class RunHeldError(StorageError):
    """Another process holds the run's lease."""


class ResourceError(Exception):
    """The job asks for more than the machine or cluster has: what was asked and what is there."""
