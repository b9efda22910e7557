"""What goes wrong with data."""


class DataError(Exception):
    """The data cannot be used as it is: the message gives the value, the rule and a remedy."""
