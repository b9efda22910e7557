"""Whether a job's images are where it says: known before anything is imported that takes seconds."""

from data_pipeline.config import DataConfig
from data_pipeline.listing.image_folder import existing_root
from data_pipeline.listing.label_table import label_file
from data_pipeline.listing.table_file import check_table


def check_places(data: DataConfig) -> None:
    """Raise DataError where the folder or the labels file is not there. What a URI holds is found out later."""
    if "://" in data.root:
        return
    existing_root(data)
    if data.labels and "://" not in data.labels:
        check_table(label_file(data))
