"""What goes wrong with bundles and images at inference."""


class BundleError(Exception):
    """A bundle cannot be used as it is: value, rule and remedy."""


class RuntimeMissingError(Exception):
    """A format or a command needs a package that is not installed: which, and the extra that brings it."""


class UnreadableImageError(ValueError):
    """What was given is no image that can be used; the message is a short reason."""


def brief(error: object, most: int = 300) -> str:
    """What an error says, in one line of at most so many letters: others write pages, or what a file told them to."""
    text = " ".join(str(error).split())
    return text if len(text) <= most else f"{text[:most]}..."
