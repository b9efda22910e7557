"""How many images of a class it takes to judge the class by."""

ENOUGH = 10
"""Of fewer images, one answer more or less moves a class's recall by more than a tenth."""
TOO_FEW = "too few images to judge"


def remark_on(images: int) -> str:
    """What stands beside the numbers of a class with so many images; empty where there are enough."""
    return TOO_FEW if images < ENOUGH else ""
