"""What all tests share: how threads wait, how hypothesis runs, and image files of every kind."""

import os

# Threads that wait would keep other processes' threads from the cores. Tests' own processes inherit this.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "10000"

import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image
from pydantic import BaseModel

from data_pipeline.views.randomness import SeededDraw
from resnet_dist.config import OptimizerConfig, ScheduleConfig, TrainingConfig
from resnet_dist.model.config import FreezingConfig, ModelConfig
from resnet_dist.model.resnet import ResNetClassifier, build_model
from resnet_dist.runtime.telemetry import refuse_telemetry
from resnet_dist.training.rank_group import RankGroup
from resnet_dist.training.setup import Setup
from tests.kube_server.fixtures import (  # noqa: F401 - fixtures of all tests
    _http_server,
    _https_server,
    kube_server,
    kube_server_https,
    server_certificate,
)
from tests.real_bundle import bundle_made_once, with_formats

refuse_telemetry()  # also for tests that import onnxruntime, openvino or nncf themselves

# `make test-all` asks for the thorough one. Laws that cost more than most take a share of either: tests/laws.py.
settings.register_profile("quick", max_examples=30, deadline=None, print_blob=True)
settings.register_profile("thorough", max_examples=200, deadline=None, print_blob=True)
settings.load_profile("quick")

# Tests run one process a core. What is said of more threads is tested with as many.
torch.set_num_threads(1)

ORIENTATION = 0x0112


class ImageFiles:
    """Makes the bytes of image files, common ones with Pillow and odd ones by hand."""

    @staticmethod
    def photo(width: int, height: int, channels: int = 3, seed: int = 0) -> np.ndarray:
        """Smooth random uint8 [height, width, channels], unlike each of its rotations and mirror images."""
        coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
        return smooth[:, :, :channels] if channels > 1 else smooth[:, :, 0]

    @staticmethod
    def encode(image: np.ndarray | Image.Image, kind: str, mode: str | None = None, **options: object) -> bytes:
        """A file of `kind` as Pillow writes it, after conversion to `mode`."""
        file = BytesIO()
        picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        (picture.convert(mode) if mode else picture).save(file, kind, **options)
        return file.getvalue()

    def turned(self, image: np.ndarray, kind: str, orientation: int, **options: object) -> bytes:
        """A file whose EXIF says `orientation`; the pixels are stored as they are."""
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        return self.encode(image, kind, exif=exif, **options)

    @staticmethod
    def png(samples: np.ndarray, bits: int, colour_type: int, before: bytes = b"") -> bytes:
        """A PNG by hand. `samples`: [height, width, channels] below 2**bits, bits 8 or 16; `before`: more chunks."""
        height, width, _ = samples.shape
        rows = samples.astype(">u2" if bits == 16 else "u1")
        raw = b"".join(b"\0" + row.tobytes() for row in rows)
        header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
        chunk = ImageFiles.png_chunk
        parts = [chunk(b"IHDR", header), before, chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(parts)

    @staticmethod
    def png_chunk(kind: bytes, data: bytes) -> bytes:
        """One chunk of a PNG with its length and checksum."""
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    @staticmethod
    def tiff16(
        samples: np.ndarray, order: str = "<", planes: bool = False, orientation: int = 1, deflated: bool = False
    ) -> bytes:
        """A 16-bit RGB TIFF by hand; `order` is "<" or ">", `planes` stores one channel after another."""
        height, width, channels = samples.shape
        data = (samples.transpose(2, 0, 1) if planes else samples).astype(f"{order}u2").tobytes()
        data = zlib.compress(data) if deflated else data
        strips = channels if planes else 1
        count = 11
        after = 8 + 2 + 12 * count + 4
        bits_at, offsets_at, counts_at, data_at = (after, after + 8, after + 24, after + 40)
        longs = {
            256: width,
            257: height,
            273: offsets_at if planes else data_at,
            278: height,
            279: counts_at if planes else len(data),
        }
        shorts = {259: 8 if deflated else 1, 262: 2, 274: orientation, 277: channels, 284: 2 if planes else 1}
        entries = {258: struct.pack(f"{order}HHII", 258, 3, channels, bits_at)}
        entries |= {
            tag: struct.pack(f"{order}HHII", tag, 4, strips if tag in (273, 279) else 1, v) for tag, v in longs.items()
        }
        entries |= {tag: struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in shorts.items()}
        size = len(data) // strips
        head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, count)
        body = b"".join(entries[tag] for tag in sorted(entries)) + struct.pack(f"{order}I", 0)
        bits = struct.pack(f"{order}{channels}H", *[16] * channels).ljust(8, b"\0")
        offsets = struct.pack(f"{order}{strips}I", *[data_at + size * n for n in range(strips)]).ljust(16, b"\0")
        sizes = struct.pack(f"{order}{strips}I", *[size] * strips).ljust(16, b"\0")
        return head + body + bits + offsets + sizes + data

    @staticmethod
    def bmp_rle(grey: np.ndarray) -> bytes:
        """A run-length encoded 8-bit grey BMP by hand. `grey`: uint8 [height, width]."""
        height, width = grey.shape
        rows = [b"".join(bytes([1, level]) for level in row) + b"\0\0" for row in grey[::-1].tolist()]
        pixels = b"".join(rows) + b"\0\1"
        palette = b"".join(bytes([level, level, level, 0]) for level in range(256))
        header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(pixels), 0, 0, 256, 0)
        start = 14 + len(header) + len(palette)
        return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + palette + pixels

    @staticmethod
    def damaged() -> dict[str, bytes]:
        """Files that nobody can read, by what is wrong with them."""
        jpeg = ImageFiles.encode(ImageFiles.photo(64, 48), "JPEG")
        png = ImageFiles.encode(ImageFiles.photo(64, 48), "PNG")
        return {
            "empty": b"",
            "text": b"this is no image\n" * 20,
            "html named jpg": b"<!DOCTYPE html><html><body>404</body></html>",
            "half a JPEG": jpeg[: len(jpeg) // 2],
            "JPEG's first bytes": jpeg[:20],
            "half a PNG": png[: len(png) // 2],
            "PNG's first bytes": png[:12],
            "zeros": bytes(1000),
            "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
        }


@pytest.fixture(scope="session")
def image_files() -> ImageFiles:
    """Makes the bytes of image files."""
    return ImageFiles()


@pytest.fixture(scope="session")
def run_ranks() -> Callable[..., list[dict[str, Any]]]:
    """Runs a script as so many processes, one a rank, and reads what each has saved.

    The script's arguments are rank, world size, folder and whatever else is given; it saves to folder/<rank>.pt.
    """

    def run(script: str, world_size: int, folder: Path, *arguments: str) -> list[dict[str, Any]]:
        folder.mkdir()
        started = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(rank), str(world_size), str(folder), *arguments],
                stderr=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[1],
            )
            for rank in range(world_size)
        ]
        try:
            for rank in started:
                _, said = rank.communicate(timeout=200)
                assert rank.returncode == 0, said
        finally:
            for rank in started:
                rank.kill()
                rank.wait()
        return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world_size)]

    return run


@pytest.fixture(scope="session")
def make_setup() -> Callable[..., Setup]:
    """A tiny training's set-up; options of any section by their names, exact sums unless said otherwise."""

    def make(
        *,
        device: torch.device | None = None,
        weights: dict[str, torch.Tensor] | None = None,
        model: ResNetClassifier | None = None,
        size: int = 32,
        class_counts: tuple[int, ...] = (11, 11, 10),
        learning_rate: float = 0.05,
        **options: Any,
    ) -> Setup:
        def of(section: type[BaseModel]) -> dict[str, Any]:
            return {name: options.pop(name) for name in list(options) if name in section.model_fields}

        optimizer = OptimizerConfig(learning_rate=learning_rate, **of(OptimizerConfig))
        freezing, config = FreezingConfig(**of(FreezingConfig)), ModelConfig(arch="resnet18", **of(ModelConfig))
        training = TrainingConfig(**{"reduction": "exact"} | options)
        place = device or torch.device("cpu")
        model = model or build_model(config.structure, len(class_counts), config.dropout, 0)
        if weights is not None:
            model.load_state_dict(weights)
        return Setup(
            model=model.to(device=place, memory_format=torch.channels_last),
            config=config,
            freezing=freezing,
            optimizer=optimizer,
            schedule=ScheduleConfig(),
            schedule_epochs=4,
            training=training,
            class_counts=np.array(class_counts),
            input_size=(size, size),
            draw=SeededDraw(0),
            group=RankGroup(),
            device=place,
        )

    return make


@pytest.fixture(scope="session")
def real_bundle(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of a real bundle, not to be changed: a ResNet-18 that has learnt nothing, at 32 px.

    It has the formats torchscript, onnx and openvino; its network lies beside it. It answers the photos of
    `image_files` with several classes and rejects some. It refuses more than 10,000 pixels.
    """
    base = tmp_path_factory.getbasetemp()
    # Workers of pytest-xdist share the folder above their own.
    shared = base if worker_id == "master" else base.parent
    photos = np.stack([ImageFiles.photo(48, 40, seed=seed) for seed in range(16)])
    return bundle_made_once(shared / "real", photos)


@pytest.fixture(scope="session")
def bundle_folder(real_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real bundle with the formats onnx and openvino, not to be changed."""
    return with_formats(real_bundle, tmp_path_factory.mktemp("made") / "bundle", "onnx", "openvino")


@pytest.fixture
def bundle_copy(bundle_folder: Path, tmp_path: Path) -> Path:
    """A copy of the bundle by links: to change a file, remove it and write another one."""
    return Path(shutil.copytree(bundle_folder, tmp_path / "bundle", copy_function=os.link))
