"""Images on a real S3 server: the same data as in a folder, and errors that say what to do."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.errors import StorageError
from cluster.storage.store import Store
from data_pipeline.errors import DataError
from ray_jobs.data.node_images import NodeImages, on_this_node
from ray_jobs.data.prepare import prepare_data
from ray_jobs.job.config import JobConfig, run_name
from ray_jobs.job.toml import check
from tests.s3_server import KEYS, S3Server, s3_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def job_of(root: str, cache: Path, **data: object) -> JobConfig:
    return check({"data": {"root": root, "cache_dir": str(cache), "image_size": 32, **data}})


def test_images_of_a_bucket_are_the_images_of_the_folder(
    server: S3Server, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    server.upload(folder / "data", "data/sets/parts")
    local = prepare_data(job_of(str(folder / "data"), tmp_path / "one"))
    job = job_of(server.uri("data/sets/parts"), tmp_path / "two")
    remote = prepare_data(job)
    assert remote.dataset.fingerprint == local.dataset.fingerprint
    assert remote.split_rows() == local.split_rows()
    assert run_name(job).startswith("parts-")

    train = remote.split("train")
    images = NodeImages.of(job.data, train)
    assert images is not None
    assert NodeImages.of(job_of(str(folder / "data"), tmp_path).data, local.split("train")) is None
    elsewhere = NodeImages(job_of(server.uri("data/sets/parts"), tmp_path / "three").data, images.files)
    with on_this_node(elsewhere, train) as (there,):
        assert there.root.startswith(str(tmp_path / "three"))
        for row in range(len(there)):
            with open(there.path(row), "rb") as one, open(train.path(row), "rb") as other:  # noqa: PTH123 - bytes
                assert one.read() == other.read()

    with server.filesystem.open_output_stream("data/labels/labels.csv") as stream:
        stream.write(
            b"path,label\n" + b"".join(b"%s/%d.png,%s\n" % (c, n, c) for c in (b"good", b"bad") for n in range(9))
        )
    labelled = prepare_data(
        job_of(server.uri("data/sets/parts"), tmp_path / "two", labels=server.uri("data/labels/labels.csv"))
    )
    assert len(labelled.dataset) == 18

    victim = "data/sets/parts/good/0.png"
    with server.filesystem.open_output_stream(victim) as stream:
        stream.write(b"no image")
    with pytest.raises(DataError, match=r"good/0\.png[\s\S]*is this machine's copy of s3://data/sets/parts\?"):
        prepare_data(job)


def test_what_cannot_be_reached_says_what_to_do(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageError, match=r"there is no such file; check the address"):
        prepare_data(job_of(server.uri("data/none"), tmp_path))
    with pytest.raises(StorageError, match=r"no such bucket; create it, or correct --data\.root"):
        prepare_data(job_of(server.uri("elsewhere/parts"), tmp_path))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match=r"refuses it.*AWS_SECRET_ACCESS_KEY.*--data\.root") as refused:
        prepare_data(job_of(server.uri("data/none"), tmp_path))
    assert "wrong" not in str(refused.value)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(StorageError, match=r"none given; set AWS_ACCESS_KEY_ID"):
        prepare_data(job_of(server.uri("data/none"), tmp_path))


def test_the_endpoint_may_come_from_the_environment(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://{server.endpoint}"}.items():
        monkeypatch.setenv(name, value)
    Store.open("s3://data/place").write("file", b"there")
    with server.filesystem.open_input_stream("data/place/file") as stream:
        assert stream.read() == b"there"
