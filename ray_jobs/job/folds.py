"""The runs of a cross-validation, as jobs of their own."""

from ray_jobs.job.config import JobConfig, run_name


def fold_jobs(job: JobConfig) -> list[JobConfig]:
    """A job for each of `data.folds`, <name>-fold0 and so on; none without them."""
    return [
        job.model_copy(
            update={"name": f"{run_name(job)}-fold{fold}", "data": job.data.model_copy(update={"fold": fold})},
        )
        for fold in range(job.data.folds or 0)
    ]
