"""What goes wrong with bundles at inference."""


class BundleError(Exception):
    """A bundle cannot be used as it is: value, rule and remedy."""


class RuntimeMissingError(Exception):
    """A format needs a package that is not installed: which, and the extra that brings it."""
