"""A job's teacher, read and verified on the driver: workers may not see the run that it is of."""

from dataclasses import dataclass
from typing import Any, Self

import torch

from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.training.teacher_run import TeacherRun
from resnet_dist.compression.distillation.teacher import Teacher
from resnet_dist.errors import RunError


@dataclass(frozen=True)
class TeacherNetwork:
    """What a worker makes the teacher of."""

    model: dict[str, Any]
    """model.json of its best checkpoint."""
    weights: dict[str, torch.Tensor]
    """Those to be judged, on the CPU."""

    @classmethod
    def of(cls, job: JobConfig) -> Self | None:
        """Of a resolved job, None where it has no teacher.

        Raises what `TeacherRun.of` raises, RunError for weights that are damaged or do not fit, and ConfigError where
        the teacher has changed since the job was resolved.
        """
        found = TeacherRun.of(job)
        if found is None:
            return None
        if found.digest != job.distillation.teacher_digest:
            raise ConfigError(
                f"distillation.teacher={job.distillation.teacher} changed while this command started; wait until "
                "nobody trains it, and start again"
            )
        checkpoint = found.run.checkpoint(found.step)
        network = cls(checkpoint.model_json(), checkpoint.weights())
        try:
            network.teacher()
        except (RunError, RuntimeError) as error:  # torch's own, for weights of another network
            raise RunError(
                f"distillation.teacher={job.distillation.teacher}: {checkpoint.name} cannot be built: {error}; choose "
                "another teacher"
            ) from error
        return network

    def teacher(self, *, with_maps: bool = False) -> Teacher:
        """On the CPU."""
        return Teacher.rebuilt(self.model, self.weights, with_maps=with_maps)
