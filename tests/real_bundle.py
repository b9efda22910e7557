"""A small real bundle, made by the code that makes them in production: ResNet-18 at 32 px, three classes.

It is exported once for all tests of a run, whichever pytest-xdist workers ask for it; other bundles are made from it.
"""

import fcntl
import json
import os
import shutil
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from resnet_dist.evaluation.judged_answers import ClassCounts, JudgedAnswers
from resnet_dist.export.bundle_writer import DESCRIPTION, BundleContent, write_bundle
from resnet_dist.export.config import ExportConfig, Format
from resnet_dist.export.formats.build import build, write_graph
from resnet_dist.export.int8.calibration import Calibration
from resnet_dist.export.parity import Parity
from resnet_dist.model.model_json import describe
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from resnet_dist.runtime.bundle import MANIFEST, seal
from resnet_dist.runtime.operating_point import OperatingPoint
from resnet_dist.runtime.preprocess import Preprocess

SIZE = 32
CLASSES = ("bent", "good", "scratched")
FORMATS: tuple[Format, ...] = ("torchscript", "onnx", "openvino")
_PASSED = Parity("passed", "", 4, 1.0, 0.0, (-0.01, 0.01), 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.1, 44.7, 1.0)
"""What a parity check would say, which is not what these tests are about."""


def contract() -> Preprocess:
    """Whole images of `SIZE`, of at most 10,000 pixels."""
    return Preprocess("whole", SIZE, 1.0, (0, 0, 0), (0.5, 0.5, 0.5), (0.1, 0.1, 0.1), None, 10_000)


def bundle_made_once(folder: Path, photos: np.ndarray) -> Path:
    """The bundle in `folder`, which processes may share: the first one makes it while the others wait.

    `photos`: uint8 [N, height, width, 3], which the network answers with several classes, and rejects some.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            _make(unfinished / "bundle", photos)
            unfinished.rename(folder)
    return folder / "bundle"


def _make(folder: Path, photos: np.ndarray) -> None:
    """Write the bundle into `folder`, and its network beside it."""
    model, preprocess = build_model(Structure("resnet18"), len(CLASSES), 0.0, 0).eval(), contract()
    images = np.stack([preprocess.apply(photo) for photo in photos])
    with torch.no_grad():
        # The contrast of the logits of a network that has learnt nothing is small; their mean says nothing.
        logits = model(torch.from_numpy(preprocess.normalise(images)).permute(0, 3, 1, 2))
        model.fc.bias -= logits.mean(0)
        logits = (logits - logits.mean(0)).numpy()
    point = OperatingPoint(temperature=float(np.abs(logits).max()) / 3, reject_below=0.45)
    write_graph(model, preprocess, folder, ExportConfig().opset, CLASSES)
    calibration = Calibration([images], [images], logits.argmax(1))
    built = [build(name, model, preprocess, folder, ExportConfig(), calibration) for name in FORMATS]
    provenance = {"run": "line", "checkpoint": "step-00000001", "arch": "resnet18", "packages": {}}
    content = BundleContent("line", CLASSES, preprocess, point, provenance, {"val": _evaluation()})
    write_bundle(folder, content, built, dict.fromkeys(FORMATS, _PASSED), {}, None)
    beside = folder.with_name(f"{folder.name}-network")
    beside.mkdir()
    (beside / "model.json").write_text(json.dumps(describe(model)))
    safetensors.torch.save_file(model.state_dict(), beside / "weights.safetensors")


def with_formats(bundle: Path, folder: Path, *names: Format) -> Path:
    """A bundle of some formats of another one; its files are links, so do not write into them."""
    manifest = json.loads((bundle / MANIFEST).read_bytes())
    del manifest["seal"]
    formats = {name: manifest["formats"][name] for name in names}
    kept = {*DESCRIPTION, *(path for each in formats.values() for path in each["files"])}
    files = {path: entry for path, entry in manifest["files"].items() if path in kept}
    for path in files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        os.link(bundle / path, folder / path)
    (folder / MANIFEST).write_bytes(seal(manifest | {"formats": formats, "files": files}))
    return folder


def changed(bundle: Path, folder: Path, **parts: object) -> Path:
    """A copy of a bundle whose bundle.json says something else, and is sealed again."""
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    del manifest["seal"]
    (folder / MANIFEST).write_bytes(seal(manifest | parts))
    return folder


def inconclusive(bundle: Path, folder: Path, name: str) -> Path:
    """A copy of a bundle of which nobody can tell whether one of its formats loses too much."""
    formats = json.loads((bundle / MANIFEST).read_bytes())["formats"]
    formats[name]["verdict"] = "inconclusive"
    formats[name]["parity"]["reason"] = "top-1 falls by 0.40 points (-0.10 .. 0.90), 0.50 are allowed"
    return changed(bundle, folder, formats=formats)


def digest_of(bundle: Path) -> str:
    """The seal of a bundle."""
    return json.loads((bundle / MANIFEST).read_bytes())["seal"]


def as_run(bundle: Path, root: Path, name: str) -> Path:
    """A copy of a bundle as the one of a run under a storage root; of the run there is no more than its config."""
    run = root / "runs" / name
    shutil.copytree(bundle, run / "bundle")
    (run / "config.toml").write_text(f'name = "{name}"\n')
    return run


def _evaluation() -> JudgedAnswers:
    """One image of each class, and all are right."""
    each = ClassCounts(images=1, found=1, missed=0, rejected=0, false_alarms=0, recall=1.0, precision=1.0)
    metrics = {"top1": 1.0, "macro_f1": 1.0, "balanced_accuracy": 1.0}
    return JudgedAnswers(3, 3, 0, 0, metrics, dict.fromkeys(CLASSES, each))
