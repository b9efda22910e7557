"""What `promote` and `pull` print."""

from ray_jobs.bundles.promote import Promotion
from ray_jobs.bundles.pull import PullOutcome
from ray_jobs.bundles.registry import SHORT
from ray_jobs.terminal.console import show_line


def show_promotion(promotion: Promotion) -> None:
    """What is in production now, and how to fetch it or to go back."""
    digest = promotion.digest[:SHORT]
    what = "is in production" if promotion.changed else "was in production already"
    show_line(f"{promotion.uri} {what}: {', '.join(promotion.formats)}")
    for name, reason in promotion.refused.items():
        show_line(f"{name} is not in it: {reason}")
    show_line(f"next: resnet-dist pull {promotion.name} --to DIR (or {promotion.name}@{digest}, whatever comes after)")
    if promotion.previous is not None:
        show_line(f"back to {promotion.previous[:SHORT]}: resnet-dist promote {promotion.name} --rollback")


def show_pull(pulled: PullOutcome) -> None:
    """What the folder holds."""
    what = "holds" if pulled.changed else "held already"
    checked = "every file and the signature checked" if pulled.is_signed else "every file checked"
    show_line(f"{pulled.folder} {what} {pulled.digest[:SHORT]} of {pulled.source}, {checked}")
    show_line(f"next: resnet-dist predict {pulled.folder} IMAGE...")
