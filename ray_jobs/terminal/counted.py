"""How many of a thing there are, in words."""


def counted(count: int, thing: str) -> str:
    """ "1 trial", "2 trials"."""
    return f"{count} {thing}{'' if count == 1 else 's'}"
