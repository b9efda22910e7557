"""`resnet-dist export`: a trained run becomes a bundle. Each of its formats answers as the trained model does."""

import json
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.storage.outage import Patience
from cluster.storage.store import Store
from ray_jobs.bundles.export_data import BATCH, ExportImages, RunData, batches
from ray_jobs.bundles.provenance import provenance_of
from ray_jobs.errors import ConfigError, GateError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml_codec import Tree
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.lookup import find_run, job_of_run, which_checkpoint
from resnet_dist.evaluation.calibration import fit_temperature
from resnet_dist.evaluation.judged_answers import JudgedAnswers, judge_answers
from resnet_dist.evaluation.operating_points import choose
from resnet_dist.export.bundle_writer import DESCRIPTION, BundleContent, write_bundle
from resnet_dist.export.config import FORMATS, Format
from resnet_dist.export.formats.build import (
    BuiltFormat,
    build,
    graph_folder,
    needs_calibration,
    needs_graph,
    wanted_formats,
    write_graph,
)
from resnet_dist.export.formats.load import engine_of
from resnet_dist.export.int8.calibration import Calibration
from resnet_dist.export.parity import Parity, Reference, ReferenceAnswers, check_parity
from resnet_dist.model.model_json import restored, restored_float
from resnet_dist.model.resnet import ResNetClassifier
from resnet_dist.quantisation.network import ranges_of
from resnet_dist.runtime.bundle import BUNDLE, MANIFEST, SIGNATURE, read_manifest
from resnet_dist.runtime.engines import usable_cores
from resnet_dist.runtime.errors import BundleError
from resnet_dist.runtime.operating_point import OperatingPoint
from resnet_dist.runtime.preprocess import Preprocess
from resnet_dist.torch_threads import torch_threads

_PROBE = ".probe"
_UNFINISHED = "unfinished"
_PATH = r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*"


@dataclass(frozen=True)
class ExportOutcome:
    """An exported run."""

    uri: str
    """Of the bundle."""
    checkpoint: str
    parities: dict[str, Parity]
    """Of each format that was built."""
    failed: dict[str, str]
    """Formats that this machine should be able to build and did not, and why."""
    skipped: dict[Format, str]
    """Formats that this machine cannot build, and why."""
    evaluation: dict[str, JudgedAnswers]
    """What the operating point comes to, by split."""
    operating_point: dict[str, Any]
    notes: tuple[str, ...]
    """What a person should know of the data."""

    @property
    def refused(self) -> dict[str, str]:
        """Formats that are not in the bundle, and why."""
        return self.failed | {name: each.reason for name, each in self.parities.items() if each.verdict == "refused"}


def run_export(
    run: str,
    checkpoint: str,
    overrides: Tree,
    output: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> ExportOutcome:
    """Turn `checkpoint` (best, last or a step) of a run into its bundle, or into one in the folder `output`.

    `overrides` change what is exported and where it runs; all else is the run's own. Each format is loaded from its
    files by the runtime that ships and compared with the trained model on the val split and on noise; one that differs
    by more than its precision allows, or misses a recall that was asked for, is left out, and is in the outcome's
    `refused`. `say` gets a line about each step. Raises GateError where the trained model itself misses a recall;
    RunError, DataError, StorageError or ConfigError for what cannot be used, RuntimeMissingError for a format that was
    asked for and cannot be built here.
    """
    directory, job = _opened(run, overrides, say)
    preprocess = directory.read_preprocess()
    formats, skipped = wanted_formats(job.export, preprocess, is_quantised=job.model.quantisation is not None)
    if job.export.int8_cpu in ("arm", "x86_vnni"):
        say(f"export.int8_cpu={job.export.int8_cpu}: one file serves x86 and ARM; write any, or leave it out")
    key = _signing_key(job)
    target = Store.open(str(output)) if output is not None else directory.store.impatient().child(BUNDLE)
    _claim(target)
    found = directory.checkpoint(which_checkpoint(checkpoint), job.checkpoint.monitor)
    model = restored(found.model_json(), found.weights()).eval()
    trained = tuple(ranges_of(model).values())
    plain = restored_float(found.model_json(), found.weights()).eval() if trained else model
    with torch_threads(usable_cores()), tempfile.TemporaryDirectory(prefix="rd-export-") as scratch:
        images, data = ExportImages(preprocess, Path(scratch)), RunData.of(directory, job)
        say(f"{directory.uri} {found.name}: {len(data.val)} images of val, {job.export.noise_images} of noise")
        val, noise = images.reference("val", data.val, model), images.noise(job, model)
        point = _operating_point(job, val, data.classes)
        recalls = job.export.recalls
        reference = Reference(val, noise, point, data.classes, recalls)
        evaluation = {"val": judge_answers(point, val.logits, val.labels, data.classes, recalls)}
        _require_recall(evaluation["val"], target)
        if data.test is not None:
            test = images.reference("test", data.test, model)
            evaluation["test"] = judge_answers(point, test.logits, test.labels, data.classes, recalls)
        ranges = images.ranges(job, data) if needs_calibration(formats) and not trained else ()
        calibration = Calibration(ranges, batches(val.images), val.labels, trained)

        folder = Path(scratch) / BUNDLE
        folder.mkdir()
        workshop = _Workshop(folder, plain, preprocess, job, data.classes, say)
        built, parities, failed = workshop.build_all(formats, calibration, reference)
        provenance = provenance_of(directory, job, found, data.fingerprint)
        content = BundleContent(directory.name, data.classes, preprocess, point, provenance, evaluation)
        try:
            write_bundle(folder, content, built, parities, failed, key)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        publish(folder, target.settled().patient(Patience(job.storage.outage_s, say)))
    operating = point.to_json(data.classes)
    return ExportOutcome(target.uri, found.name, parities, failed, skipped, evaluation, operating, data.notes)


@dataclass(frozen=True)
class _Workshop:
    """Where formats are built, one after the other, and judged."""

    folder: Path
    model: ResNetClassifier
    preprocess: Preprocess
    job: JobConfig
    classes: tuple[str, ...]
    say: Callable[[str], None]

    def build_all(
        self, formats: list[Format], calibration: Calibration, reference: Reference
    ) -> tuple[list[BuiltFormat], dict[str, Parity], dict[str, str]]:
        """Those that were built, how each compares with the trained model, and why others could not be built."""
        built, parities, failed = list[BuiltFormat](), dict[str, Parity](), dict[str, str]()
        for name in formats:
            self.say(f"{name}: building")
            try:
                made = self._build(name, calibration)
                engine = engine_of(made, self.folder, self.preprocess, len(self.classes), usable_cores())
                size = sum((self.folder / file).stat().st_size for file in made.files)
                most_loss = self.job.export.int8_max_loss
                parity = check_parity(engine, made.precision, reference, most_loss, size, BATCH)
            except Exception as error:  # whatever a converter raises, the other formats are as good as before
                failed[name] = f"it could not be built ({type(error).__name__}: {error})"
                self.say(f"{name}: {failed[name]}")
                continue
            self.say(f"{name}: {parity.verdict}{f': {parity.reason}' if parity.reason else ''}")
            for proof in made.proofs:
                self.say(f"{name}: {proof}")
            built.append(made)
            parities[name] = parity
        return built, parities, failed

    def _build(self, name: Format, calibration: Calibration) -> BuiltFormat:
        if needs_graph(name) and not (graph_folder(self.folder) / "model.onnx").exists():
            write_graph(self.model, self.preprocess, self.folder, self.job.export.opset, self.classes)
        return build(name, self.model, self.preprocess, self.folder, self.job.export, calibration)


def _opened(run: str, overrides: Tree, say: Callable[[str], None]) -> tuple[RunDirectory, JobConfig]:
    """The run, whose storage is waited for from now on, and its job."""
    directory = find_run(run, overrides)
    job = job_of_run(directory, overrides)
    return directory.waiting(job.storage.outage_s, say), job


def publish(folder: Path, target: Store) -> None:
    """Put a bundle's files where it is read: from the first change to the last file there is no bundle.

    In between bundle.json says which files there may be, so that another export goes on where one was killed. Only
    files that it names are removed. Raises StorageError.
    """
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    before = _files_of(target) or set()
    unfinished = {"schema": 0, _UNFINISHED: sorted(before | names - {MANIFEST})}
    target.write(MANIFEST, (json.dumps(unfinished) + "\n").encode())
    for name in sorted(before - names):
        target.delete(name)
    for name in sorted(names, key=lambda name: (name == MANIFEST, name)):
        target.write(name, (folder / name).read_bytes())


def _files_of(target: Store) -> set[str] | None:
    """What a bundle there, or one that was not finished, consists of besides bundle.json; None where there is none."""
    data = target.read_or_none(MANIFEST)
    if data is None:
        return None
    with suppress(BundleError):
        return {*read_manifest(data, target.uri).files, SIGNATURE}
    try:
        names = json.loads(data)[_UNFINISHED]
        return {name for name in names if name != MANIFEST and ".." not in name and re.fullmatch(_PATH, name)}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _claim(target: Store) -> None:
    """Know before minutes of work that the bundle can be written, and that nothing else is there."""
    names = [name for name in target.list("") if name != _PROBE]
    # A damaged bundle may be replaced; another program's bundle.json lies among other things.
    ours = {MANIFEST, *DESCRIPTION, SIGNATURE, *FORMATS} if MANIFEST in names else set[str]()
    if _files_of(target) is None and (others := [name for name in names if name not in ours]):
        raise ConfigError(f"{target.uri} holds {others[0]!r} and no bundle; export to a folder of its own")
    target.write(_PROBE, b"")
    target.delete(_PROBE)


def _require_recall(val: JudgedAnswers, target: Store) -> None:
    """Raise GateError before formats are built that nobody may publish."""
    if val.missed_recalls:
        raise GateError(
            f"export.recall is missed by the trained model on val: {', '.join(val.missed_recalls.values())}. Where "
            "several classes reach their thresholds, the one furthest above is answered, and the others lose the "
            f"image: ask less of one class, or remove its recall or costs. Nothing was written to {target.uri}"
        )


def _signing_key(job: JobConfig) -> Path | None:
    if not job.export.signing_key:
        return None
    key = Path(job.export.signing_key).expanduser()
    if not key.is_file():
        raise ConfigError(f"export.signing_key={job.export.signing_key} is no file; give a private key in PEM form")
    return key


def _operating_point(job: JobConfig, val: ReferenceAnswers, classes: tuple[str, ...]) -> OperatingPoint:
    export = job.export
    temperature = fit_temperature(val.logits, val.labels)
    probabilities = OperatingPoint(temperature).probabilities(val.logits)
    return choose(
        probabilities, val.labels, classes, temperature, export.recalls, export.cost_pairs, export.reject_below
    )
