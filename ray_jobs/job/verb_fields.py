"""Which fields of a job the commands take that work on a finished run: the rest is the run's own."""

from ray_jobs.job.identity import belongs
from ray_jobs.job.toml import dotted_fields

HOW_IMAGES_ARE_READ = ("data.source", "data.bit_depth", "data.max_pixels", "data.cache_dir")
"""Of a command that looks at images and trains nothing."""
OF_INSPECTION = {
    *("data.root", "data.labels", "data.rename_classes", "data.ignore_classes", "data.class_order", "data.folds"),
    *("data.fold", "data.val_fraction", "data.test_fraction", *HOW_IMAGES_ARE_READ),
    *("seed", "storage.root", "storage.outage_s", "cluster.address"),
}
_WHERE = {name for name, section, field in dotted_fields() if not belongs(section, field)}


def of_evaluation(name: str) -> bool:
    """Whether `evaluate` takes a field, by its dotted name."""
    return name in _WHERE and name.startswith(("data.", "evaluation.", "storage.", "cluster."))


def of_inspection(name: str) -> bool:
    """Whether `data inspect` takes a field, by its dotted name: which images there are, and of which split."""
    return name in OF_INSPECTION


def of_export(name: str) -> bool:
    """Whether `export` takes a field, by its dotted name."""
    return name.startswith(("export.", "storage.")) or name in {
        *("data.root", "data.labels", "data.max_pixels", "data.cache_dir"),
        "checkpoint.monitor",
    }


def of_place(name: str) -> bool:
    """Whether a field, by its dotted name, says where and how a command runs, and nothing of what comes of it."""
    return name in _WHERE
