"""The client of a running Ray's Jobs API against real servers that answer as a Ray, its proxies and strangers do."""

import json
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import ray

from cluster.errors import NoSuchObjectError, SubmissionError, TargetUnreachableError
from cluster.jobs_api.client import RayJobsClient, check_address
from cluster.jobs_api.token import token_headers

Answer = tuple[int, str, dict[str, str]]
VERSION: Answer = (200, json.dumps({"ray_version": ray.__version__}), {})


@contextmanager
def serving(*answers: Answer) -> Generator[tuple[str, list[str]]]:
    """A server that gives one answer after the other and then the last one again; its address and the tokens it saw."""
    rest: Iterator[Answer] = iter(answers)
    last, seen = answers[0], []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal last
            last = next(rest, last)
            seen.append(self.headers.get("Authorization", ""))
            status, body, headers = last
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _no_other_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    # Ray's own client would go there, whatever address it is given.
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")


def test_it_speaks_to_the_given_address_with_the_token() -> None:
    with serving(VERSION) as (address, seen):
        RayJobsClient(f"{address}/", {"RAY_AUTH_TOKEN": "secret"}, 1.0).check_version()
    assert seen == ["Bearer secret"]


def test_a_proxy_that_is_busy_is_waited_for() -> None:
    with serving((503, "starting", {}), (502, "", {}), (500, "gcs", {}), VERSION) as (address, seen):
        assert RayJobsClient(address, {}, 1.0).server_version == ray.__version__
    assert len(seen) == 4


def test_one_that_stays_busy_is_unreachable() -> None:
    with serving((503, "", {})) as (address, _), pytest.raises(TargetUnreachableError, match="HTTP 503"):
        RayJobsClient(address, {}, 1.0)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TargetUnreachableError, match=r"no Ray answers there .*refused"):
        RayJobsClient(f"http://127.0.0.1:{port}", {}, 1.0)


def test_another_version_of_ray_is_named_with_ours() -> None:
    with serving((200, '{"ray_version": "2.9.1"}', {})) as (address, _):
        client = RayJobsClient(address, {}, 1.0)
    with pytest.raises(SubmissionError, match=rf"runs Ray 2\.9\.1.*needs Ray {ray.__version__}"):
        client.check_version()


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_not_accepted(status: int) -> None:
    with serving((status, "no", {})) as (address, _), pytest.raises(SubmissionError, match="RAY_AUTH_TOKEN") as raised:
        RayJobsClient(address, {"RAY_AUTH_TOKEN": "secret"}, 1.0)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("body", ["<html>", "[]", "{}", '{"ray_version": 2}', "null"])
def test_a_server_that_is_no_ray(body: str) -> None:
    with serving((200, body, {})) as (address, _), pytest.raises(SubmissionError, match="not as a Ray does"):
        RayJobsClient(address, {}, 1.0)


def test_a_token_does_not_follow_a_server_that_points_elsewhere() -> None:
    with serving(VERSION) as (elsewhere, seen), serving((302, "", {"Location": elsewhere})) as (address, _):
        with pytest.raises(SubmissionError, match=f"points to {elsewhere}"):
            RayJobsClient(address, {"RAY_AUTH_TOKEN": "secret"}, 1.0)
        assert seen == []


def test_a_port_that_speaks_something_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-server\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(SubmissionError, match="does not speak HTTP"):
            RayJobsClient(f"http://127.0.0.1:{listener.getsockname()[1]}", {}, 1.0)
        thread.join()


def test_what_is_not_there_and_what_is_refused_are_told_apart() -> None:
    refused = (400, "Traceback\n  somewhere\nValueError: too long\n", {})
    with serving(VERSION, (404, "Job x does not exist", {}), refused) as (address, _):
        client = RayJobsClient(address, {}, 1.0)
        with pytest.raises(NoSuchObjectError, match="Job x does not exist"):
            client.get_job_info("x")
        with pytest.raises(SubmissionError, match=r"refuses: ValueError: too long \(HTTP 400\)"):
            client.list_jobs()


@pytest.mark.parametrize(
    "address", ["http://head:8265", "https://ray.example.com", "http://[::1]:8265", "http://h/ray"]
)
def test_addresses_of_a_jobs_api(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize("address", ["", "head:8265", "ray://head:10001", "http://", "http://h:99999", "http://h?x=1"])
def test_what_is_no_address_of_a_jobs_api(address: str) -> None:
    with pytest.raises(SubmissionError, match="use http://HOST:8265"):
        check_address(address)


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(SubmissionError, match="names a user or password") as raised:
        check_address("http://me:hunter2@head:8265")
    assert "hunter2" not in str(raised.value)


TokenFile = Callable[[str], str]


@pytest.fixture
def token_file(tmp_path: Path) -> TokenFile:
    def write(content: str) -> str:
        path = tmp_path / "token"
        path.write_text(content)
        return str(path)

    return write


def test_where_the_token_comes_from(token_file: TokenFile) -> None:
    path = token_file("in-file\n")
    assert token_headers({"RAY_AUTH_TOKEN_PATH": path}) == {"Authorization": "Bearer in-file"}
    both = {"RAY_AUTH_TOKEN_PATH": path, "RAY_AUTH_TOKEN": "given"}
    assert token_headers(both) == {"Authorization": "Bearer given"}
    assert token_headers(both | {"RAY_AUTH_MODE": "disabled"}) == {}
    assert token_headers({}) == {}


def test_a_token_that_cannot_be_sent(token_file: TokenFile, tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match="holds no token"):
        token_headers({"RAY_AUTH_TOKEN_PATH": token_file("\n")})
    with pytest.raises(SubmissionError, match="cannot be read"):
        token_headers({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")})
    with pytest.raises(SubmissionError, match="no HTTP header") as raised:
        token_headers({"RAY_AUTH_TOKEN": "hunter2\r\nHost: other"})
    assert "hunter2" not in str(raised.value)
