"""`resnet-dist compress distill`: a smaller network learns from a finished run; in short, `train` with a teacher."""

from dataclasses import replace

from ray_jobs.compression.names import result_name
from ray_jobs.compression.outcome import PhaseOutcome
from ray_jobs.compression.phase_job import phase_job, root_of_result
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml_codec import Tree
from ray_jobs.run.compression_record import run_text
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.lookup import find_run
from ray_jobs.training.driver import run_train
from resnet_dist.model.structure import Structure


def run_distill(run: str, changes: Tree, submission: str | None = None) -> PhaseOutcome:
    """Train a student of a finished run, or go on where that was interrupted. Raises what `run_train` raises, and
    ConfigError for a student that is the teacher's own network."""
    teacher = find_run(run, changes)
    job = distillation_job(teacher, changes)
    outcome = run_train(job, submission)
    return PhaseOutcome("distill", run_text(teacher, job.storage.root), outcome.run, outcome, {}, {}, "")


def distillation_job(teacher: RunDirectory, changes: Tree) -> JobConfig:
    """The job of a student: the teacher's own with `changes`.

    Unless the changes name other first weights, they are those that a run of that name was started with; of a new run
    torchvision's where they are on this machine and fit, else the teacher's by width where its blocks are of the same
    kind, else random ones. Raises ConfigError for a student that is the teacher's own network.
    """
    root = root_of_result(teacher, changes)
    name = changes.get("name") or result_name(teacher.name, "distill")
    phase: Tree = {"name": name, "storage": {"root": root}, "distillation": {"teacher": run_text(teacher, root)}}
    model = dict(changes.get("model", {}))
    own = teacher.read_config().model
    if "arch" in model and "widths" not in model:
        phase = {**phase, "model": {"widths": None}}
    job = phase_job(teacher, changes, phase)
    if _is_same(job.model.structure, own.structure):
        raise ConfigError(
            f"the student would be the teacher's own network, a {own.arch}{f' {own.widths}' if own.widths else ''}; "
            "name a smaller one with --model.arch or --model.widths, such as --model.widths 0.75"
        )
    if job.model.quantisation is not None and "weights" not in model:
        raise ConfigError(
            "model.quantisation=int8: a student has no weights yet that could be rounded; distil it in floating point, "
            "then quantise the result with compress quantize"
        )
    if "weights" in model:
        return job
    begun = RunDirectory.named(root, str(name))
    if begun.exists():  # another machine may have other weights of torchvision
        weights = begun.read_config().model.weights
    else:
        weights = first_weights(job.model.structure, own.structure, run_text(teacher, root))
    return job.model_copy(update={"model": job.model.model_copy(update={"weights": weights})})


def first_weights(student: Structure, teacher: Structure, run: str) -> str:
    """`model.weights` of a student."""
    if student.widths is None and not student.squeeze_excite:
        from resnet_dist.model.weights import hub_file  # noqa: PLC0415 - it needs torch

        if hub_file(student.arch)[0].exists():
            return "imagenet"
    from resnet_dist.compression.pruning.narrowing import can_narrow  # noqa: PLC0415 - it needs torch

    return run if can_narrow(teacher, student) else "none"


def _is_same(one: Structure, other: Structure) -> bool:
    """Whether two structures are one network, however their widths are written."""
    return one.layer_widths == other.layer_widths and one == replace(other, widths=one.widths)
