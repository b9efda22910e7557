"""`resnet-dist compress quantize`: a run in 8 bits; ranges alone where they lose little, else training.

First ranges are set and the answers judged: nothing need be trained where the loss passes the gate of `export`
(export.int8_max_loss on val), for then `export` sets the same ranges. Else the weights learn to answer as before in
spite of the rounding, from the very network that they come from.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any

from ray_jobs.compression.calibrated import calibrated_answers
from ray_jobs.compression.max_loss import JudgedLoss, enforce, judged_loss
from ray_jobs.compression.names import result_name
from ray_jobs.compression.outcome import ChainOutcome, PhaseOutcome
from ray_jobs.compression.phase_job import check_same_network, phase_job, require_float, root_of_result
from ray_jobs.compression.request import QuantizeRequest
from ray_jobs.errors import ConfigError
from ray_jobs.evaluation.answers import Answers, answers_of, compared, judged_split, splits_of
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml_codec import Tree, merged
from ray_jobs.run.compression_record import Ancestor, CompressionRecord, read_record, run_text, write_record
from ray_jobs.run.directory import CHAIN, RunDirectory
from ray_jobs.run.lookup import find_run
from ray_jobs.run.outcome import TrainOutcome
from ray_jobs.terminal.watcher import note
from ray_jobs.training.driver import run_train
from ray_jobs.training.early_checks import check_training
from ray_jobs.training.teacher_run import run_digest
from resnet_dist.checkpoint.contents import Checkpoint
from resnet_dist.evaluation.paired_interval import Changes
from resnet_dist.export.parity import int8_verdict
from resnet_dist.model.config import FREEZABLE
from resnet_dist.model.model_json import structure_of
from resnet_dist.sealed_json import json_bytes

_EPOCHS = 4
"""Of a training in 8 bits, unless the user says otherwise."""
_RATE = 0.01
"""Its highest learning rate over that of the training before: the weights only move between steps of rounding."""


def run_quantize(
    run: str,
    request: QuantizeRequest,
    changes: Tree,
    submission: str | None = None,
    say: Callable[[str], None] = lambda _: None,
    first: RunDirectory | None = None,
) -> PhaseOutcome:
    """Quantise a finished run, or go on where that was interrupted.

    Where nothing need be trained, the result is the run itself. Raises ConfigError for a run that is quantised already
    or whose job cannot be; GateError where the result loses more than `request.max_loss` of the top-1 of `first`, by
    default the run; and what `run_train` raises.
    """
    origin = find_run(run, changes)
    job = quantise_job(origin, changes)
    check_training(job, submission)
    origin = origin.waiting(job.storage.outage_s, note)
    best = origin.checkpoint("best")
    check_same_network(job.model, structure_of(best.model_json()), "quantisation rounds")
    require_float(origin, best, "quantised again; export it: resnet-dist export " + origin.name)
    result = RunDirectory.named(job.storage.root, str(job.name)).at_start(job.storage.outage_s, note)
    record = read_record(result)
    if record is None:
        if result.exists():
            raise ConfigError(f"{result.uri} is a run that quantisation did not make; choose another --name")
        began = perf_counter()
        answers = _calibrated(origin, best, job)
        losses = [JudgedLoss(split, compared(answers_of(origin, split, changes), answers[split])) for split in answers]
        verdict, reason = int8_verdict(losses[0].changes, job.export.int8_max_loss)
        for each in losses:
            say(f"ranges alone: {each}")
        split = judged_split(origin)
        loss = JudgedLoss(split, compared(answers_of(first or origin, split, changes), answers[split]))
        is_small = request.max_loss is None or loss.is_within(request.max_loss)
        if verdict == "passed" and is_small and not request.always:
            outcome = _outcome(origin, job, None, loss, {each.split: str(each) for each in losses})
            result.store.write(
                CHAIN, json_bytes({**ChainOutcome("quantize", (outcome,)).to_json(), "calibrated": outcome.calibrated})
            )
            return outcome
        say(f"training in 8 bits: {reason or ('it was asked for' if is_small else str(loss))}")
        record = write_record(result, _record(origin, job, losses, perf_counter() - began))
    elif record.request != _asked(origin, job):
        raise ConfigError(
            f"{result.uri} was quantised from another state of {run}, or with another seed; choose another --name"
        )
    trained = run_train(job, submission)
    loss = judged_loss(first or origin, RunDirectory.find(trained.run, ""), judged_split(origin), changes)
    if request.max_loss is not None:
        enforce(loss, request.max_loss, "train it longer in 8 bits (--training.epochs)")
    return _outcome(origin, job, trained, loss, _calibrated_words(record))


def quantise_job(origin: RunDirectory, changes: Tree) -> JobConfig:
    """The job of a training in 8 bits: short and gentle, without what blurs labels or images, in fp32, from the run's
    own answers."""
    root = root_of_result(origin, changes)
    name = changes.get("name") or result_name(origin.name, "quantize")
    own, itself = origin.read_config(), run_text(origin, root)
    calm: Tree = {
        "optimizer": {"learning_rate": own.optimizer.learning_rate * _RATE},
        "schedule": {"kind": "cosine", "warmup_epochs": 0.0},
        "training": {
            "epochs": _EPOCHS,
            "precision": "fp32",
            "mixup_alpha": 0.0,
            "cutmix_alpha": 0.0,
            "label_smoothing": 0.0,
            "ema_decay": None,
            "early_stopping": False,
            "compile": False,
        },
        "freezing": {"freeze_depth": 0, "preset": None, **dict.fromkeys(FREEZABLE)},
        "model": {"dropout": 0.0},
        "distillation": {"weight": 1.0, "features": 0.0},
        "export": {
            "formats": [name for name in own.export.formats if name.endswith("int8")],
            "int8_accuracy_drop": None,
        },
    }
    phase: Tree = {
        "name": name,
        "storage": {"root": root},
        "model": {"quantisation": "int8", "weights": itself},
        "distillation": {"teacher": itself},
    }
    return phase_job(origin, merged(calm, changes), phase)


def _calibrated(origin: RunDirectory, best: Checkpoint, job: JobConfig) -> dict[str, Answers]:
    """Answers to val, and to test where there is one."""
    counts = splits_of(origin)
    if not counts.get("val"):
        raise ConfigError(
            f"{origin.uri} has no images of the split val, by which the loss is judged; train it with data.val_fraction"
        )
    splits = ["val", *(["test"] if counts.get("test") else [])]
    return dict(zip(splits, calibrated_answers(origin, best, job, splits), strict=True))


def _outcome(
    origin: RunDirectory, job: JobConfig, trained: TrainOutcome | None, loss: JudgedLoss, calibrated: dict[str, str]
) -> PhaseOutcome:
    run = origin.uri if trained is None else trained.run
    return PhaseOutcome("quantize", run_text(origin, job.storage.root), run, trained, {}, {}, str(loss), calibrated)


def _record(origin: RunDirectory, job: JobConfig, losses: list[JudgedLoss], seconds: float) -> CompressionRecord:
    ancestor = Ancestor(run_text(origin, job.storage.root), run_digest(origin))
    numbers = {
        each.split: {"lost": each.changes.lost, "won": each.changes.won, "samples": each.changes.samples}
        for each in losses
    }
    return CompressionRecord(
        phase="quantize",
        parent=ancestor,
        teacher=ancestor,
        request=_asked(origin, job),
        plan={"calibrated": numbers},
        seconds={"calibrate": seconds},
    )


def _asked(origin: RunDirectory, job: JobConfig) -> dict[str, Any]:
    return {"origin": run_digest(origin), "seed": job.seed}


def _calibrated_words(record: CompressionRecord) -> dict[str, str]:
    return {
        split: str(JudgedLoss(split, Changes(each["lost"], each["won"], each["samples"])))
        for split, each in record.plan["calibrated"].items()
    }
