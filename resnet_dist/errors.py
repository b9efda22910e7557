"""What goes wrong with runs, weights and training."""


class RunError(Exception):
    """A run, a checkpoint or a weights file cannot be used as it is: value, rule and remedy."""


class DivergedError(Exception):
    """Training gives no finite numbers any more: where, on which images, and what to do."""


class UnreachableTargetError(Exception):
    """No network that compression may choose costs so little: the target, and the nearest that can be reached."""


class ReportError(Exception):
    """A report cannot be made on this machine: what is missing, and how to install it."""
