"""What goes wrong with runs and weights."""


class RunError(Exception):
    """A run, a checkpoint or a weights file cannot be used as it is: value, rule and remedy."""
