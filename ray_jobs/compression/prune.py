"""`resnet-dist compress prune`: channels are scored and cut, and the rest recovers, in rounds.

Each round is a run that `train` makes: it starts from what is left of the run before it, and learns from the run before
all pruning. What a round cuts is decided once and stored with the weights that are left (compression.json,
initial.safetensors): a start after an interruption decides nothing anew.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import Any

import ray

from cluster.session.resources import plan_workers
from cluster.session.results import results
from cluster.session.session import cluster_resources, ray_session
from ray_jobs.compression.costing import Costing, costing_of
from ray_jobs.compression.names import result_name
from ray_jobs.compression.outcome import PhaseOutcome
from ray_jobs.compression.phase_job import (
    PRUNED,
    check_same_network,
    epochs_of_rounds,
    gentler,
    phase_job,
    require_float,
    root_of_result,
)
from ray_jobs.compression.request import PruneRequest
from ray_jobs.compression.worker import Network, cut, score
from ray_jobs.data.node_images import NodeImages
from ray_jobs.data.prepare import PreparedData, prepare_data
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.identity import completed, difference, identity
from ray_jobs.job.toml_codec import Tree, merged
from ray_jobs.run.compression_record import (
    RECORD,
    Ancestor,
    CompressionRecord,
    read_record,
    run_text,
    write_record,
)
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.lookup import find_run
from ray_jobs.run.outcome import TrainOutcome
from ray_jobs.terminal.watcher import note
from ray_jobs.training.driver import run_train
from ray_jobs.training.early_checks import check_training
from ray_jobs.training.teacher_run import TeacherRun, run_digest
from resnet_dist.checkpoint.contents import Checkpoint
from resnet_dist.compression.pruning.channels import highest
from resnet_dist.errors import RunError
from resnet_dist.model.config import FREEZABLE, freezing_phases
from resnet_dist.model.model_json import structure_of
from resnet_dist.model.widths import Widths

Say = Callable[[str], None]


def run_prune(
    run: str, request: PruneRequest, changes: Tree, submission: str | None = None, say: Say = lambda _: None
) -> PhaseOutcome:
    """Prune a finished run to a target, or go on where that was interrupted.

    `changes` are those of the job of the recovery, and say where it runs. Before anything is written, it raises
    ConfigError for what the run or the job does not allow, and UnreachableTargetError; later what `run_train` raises.
    """
    pruning = _Pruning.of(run, request, changes, submission, say)
    pruning.check()
    outcome: TrainOutcome | None = None
    parent = pruning.origin
    for number, epochs in enumerate(epochs_of_rounds(pruning.job.training.epochs, pruning.rounds), start=1):
        current, record = pruning.prepared(number, parent)
        outcome = run_train(pruning.job_of(number, parent, record, epochs), submission)
        parent = current
    if outcome is None:
        raise ValueError("a pruning has at least one round")
    record = read_record(parent)
    found = {} if record is None else record.plan
    measured = {name: float(value) for name, value in found.get("measured_ms", {}).items()}
    return PhaseOutcome("prune", run_text(pruning.origin, pruning.root), outcome.run, outcome, found, measured, "")


@dataclass(frozen=True)
class _Pruning:
    """One call of `run_prune`."""

    origin: RunDirectory
    """The run before all pruning: the teacher of each round."""
    best: Checkpoint
    request: PruneRequest
    job: JobConfig
    """Of the recovery, with the name of the result and the epochs of all rounds."""
    data: PreparedData
    costing: Costing | None
    """None where every cut is decided already: nothing need be measured for it again."""
    rounds: int
    say: Say

    @classmethod
    def of(cls, run: str, request: PruneRequest, changes: Tree, submission: str | None, say: Say) -> "_Pruning":
        origin = find_run(run, changes)
        own = origin.read_config()
        root = root_of_result(origin, changes)
        name = changes.get("name") or result_name(origin.name, "prune")
        phase: Tree = {"name": name, "storage": {"root": root}, "distillation": {"teacher": run_text(origin, root)}}
        job = phase_job(origin, merged(gentler(own, changes), changes), phase)
        weights = {"weights": run_text(origin, root)}
        check_training(job.model_copy(update={"model": job.model.model_copy(update=weights)}), submission)
        origin = origin.waiting(job.storage.outage_s, note)
        best = origin.checkpoint("best")
        require_float(origin, best, PRUNED)
        structure = structure_of(best.model_json())
        request.check_fits(structure)
        check_same_network(job.model, structure, "pruning cuts")
        check_nothing_frozen(job, request)
        classes = origin.read_dataset().classes
        decided = read_record(RunDirectory.named(root, str(job.name)).at_start(job.storage.outage_s, note))
        if decided is None:
            costing = costing_of(request, structure, len(classes), job, say)
            rounds = request.rounds_for(costing.kept)
        else:
            costing, rounds = None, request.rounds or int(decided.request.get("rounds", 1))
        return cls(origin, best, request, job, prepare_data(job), costing, rounds, say)

    @property
    def root(self) -> str:
        return self.job.storage.root

    @cached_property
    def digest(self) -> str:
        """Of the run before all pruning."""
        return run_digest(self.origin)

    def check(self) -> None:
        """Raise what would stop the rounds, before the first of them takes its time."""
        if (teacher := TeacherRun.of(self.job)) is not None:
            teacher.check_classes(self.job, self.data.dataset.samples.classes)
        if not self.data.counts.get("val"):
            raise ConfigError(
                f"{self.job.data.root} has no images of the split val, by which recovery chooses its best epoch; set "
                "data.val_fraction, such as 0.15"
            )
        if self.costing is not None:
            self.costing.check_reachable()
        for number in range(1, self.rounds + 1):
            run = self.run_of(number)
            record = read_record(run)
            if record is None and run.exists():
                raise ConfigError(f"{run.uri} is a run that pruning did not make; choose another --name")
            changed = [] if record is None else _changed(record.request, self.request_of(number))
            if changed:
                raise ConfigError(
                    f"{run.uri} was pruned as something else; choose another --name or go back:\n" + "\n".join(changed)
                )

    def run_of(self, number: int) -> RunDirectory:
        """The run of a round: the last one has the name of the result."""
        name = str(self.job.name)
        return RunDirectory.named(self.root, name if number == self.rounds else f"{name}-round{number}")

    def request_of(self, number: int) -> dict[str, Any]:
        """What makes a round another one."""
        return {
            **self.request.to_json(),
            "origin": self.digest,
            "round": number,
            "rounds": self.rounds,
            "epochs before the last round": epochs_of_rounds(self.job.training.epochs, self.rounds)[:-1],
            "job": identity(self.job, self.data.dataset.fingerprint),
        }

    def prepared(self, number: int, parent: RunDirectory) -> tuple[RunDirectory, CompressionRecord]:
        """The run of a round with the weights that it starts from, made now unless they are stored."""
        run = self.run_of(number).at_start(self.job.storage.outage_s, note)
        record = read_record(run)
        if record is not None:
            return run, record
        if self.costing is None:
            raise RunError(
                f"{run.uri} has no {RECORD}, and the result that was made of it has one; restore it, or choose another "
                "--name"
            )
        found = self.best if number == 1 else parent.checkpoint("best")
        train = self.data.split("train")
        network = Network(
            job=self.job,
            model=found.model_json(),
            weights=found.weights(),
            train=train,
            images=NodeImages.of(self.job.data, train),
            microbatches=self.request.score_microbatches,
        )
        seconds: dict[str, float] = {}
        with ray_session(self.job.cluster):
            workers = plan_workers(self.job.cluster, *cluster_resources())
            options = {"num_cpus": workers.cpus_per_worker, "num_gpus": 1 if workers.use_gpu else 0, "max_retries": 3}
            shared = ray.put(network)
            self.say(f"round {number} of {self.rounds}: scoring the channels of {parent.uri}")
            began = perf_counter()
            [scores] = results([ray.remote(score).options(**options).remote([shared], workers)])
            seconds["score"] = perf_counter() - began
            began = perf_counter()
            plan = self.costing.solved(structure_of(found.model_json()), scores, number, self.rounds)
            seconds["plan"] = perf_counter() - began
            self.say(f"round {number} of {self.rounds}: {plan.summary}")
            began = perf_counter()
            keep = highest(scores, plan.widths)
            [(_, weights)] = results([ray.remote(cut).options(**options).remote([shared], keep, workers)])
            seconds["cut"] = perf_counter() - began
        record = CompressionRecord(
            phase="prune",
            parent=Ancestor(run_text(parent, self.root), run_digest(parent)),
            teacher=Ancestor(run_text(self.origin, self.root), self.digest),
            request=self.request_of(number),
            plan=plan.to_json(),
            seconds=seconds,
        )
        return run, write_record(run, record, weights)

    def job_of(self, number: int, parent: RunDirectory, record: CompressionRecord, epochs: int) -> JobConfig:
        """The job of a round's recovery."""
        widths = Widths.from_json(record.plan["widths"], self.job.model.arch)
        model = {"weights": run_text(parent, self.root), "widths": widths.text}
        return self.job.model_copy(
            update={
                "name": self.run_of(number).name,
                "model": self.job.model.model_copy(update=model),
                "training": self.job.training.model_copy(update={"epochs": epochs}),
            }
        )


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """A line for each value in which two requests differ. Their jobs decide which channels are cut, as views do."""
    (asked, job), (asked_now, job_now) = (({**each}, dict(each.get("job", {}))) for each in (before, after))
    del asked_now["job"]
    asked.pop("job", None)
    return difference(asked, asked_now) + difference(completed(job), job_now)


def check_nothing_frozen(job: JobConfig, request: PruneRequest) -> None:
    """Raise ConfigError where the recovery would freeze a stage that pruning cuts: it could not recover."""
    cut_stages = FREEZABLE if request.scope == "all" else FREEZABLE[1:]
    for first, policies in freezing_phases(job.freezing):
        for stage, policy in zip(FREEZABLE, policies, strict=True):
            if policy == "frozen" and stage in cut_stages:
                raise ConfigError(
                    f"freezing keeps {stage} frozen (from epoch {first + 1} on), and pruning cuts its channels, which "
                    "then could not recover; add --freezing.freeze-depth 0 --freezing.preset none"
                )
