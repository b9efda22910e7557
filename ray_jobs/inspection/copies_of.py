"""The copies of a data set as groups that a split keeps whole."""

from data_pipeline.config import DataConfig
from ray_jobs.inspection.inspect import inspected_data
from ray_jobs.job.toml import check


def copies_of(data: DataConfig, radius: int | None = None) -> dict[str, str]:
    """By sample id the name of the group of its copies, "copies of " and the sample id of their medoid.

    The images are looked at, or remembered from an inspection; nothing is stored. Raises ConfigError for a wrong
    radius, and DataError where images cannot be read, or are no data set.
    """
    inspected = inspected_data(check({"data": data.model_dump()}), radius)
    ids = inspected.dataset.samples.sample_ids
    return {
        ids[row]: f"copies of {ids[cluster.medoid]}"
        for cluster in inspected.copies.clusters
        for row in cluster.members.tolist()
    }
