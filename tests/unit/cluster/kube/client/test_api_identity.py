"""Where the client finds who it is, what it says where it finds nothing, and credentials that change while it runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cluster.errors import SubmissionError
from cluster.kube.client.api import KubeApi
from cluster.kube.client.identity import find_identity
from cluster.kube.client.kinds import CONFIG_MAP, POD
from cluster.kube.client.outage import Patience
from tests.kube_server.certificate import make_certificate
from tests.kube_server.faults import Fault
from tests.kube_server.server import KubeServer

SECRET = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ"


def change(path: Path, **sections: object) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | sections))


@pytest.fixture
def config(server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubeconfig that is in use."""
    path = server.kubeconfig(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(path))
    return path


def test_no_kubeconfig_says_where_it_was_looked_for_and_what_to_do(tmp_path: Path):
    place = tmp_path / "nowhere"
    with pytest.raises(
        SubmissionError, match=f"KUBECONFIG={place} names no file.*set KUBECONFIG.*--cluster.address http"
    ):
        find_identity(None, tmp_path, {"KUBECONFIG": str(place)})
    # What was named is not silently replaced by the pod's identity.
    with pytest.raises(SubmissionError, match="names no file"):
        find_identity(None, tmp_path, {"KUBECONFIG": str(place), "KUBERNETES_SERVICE_HOST": "127.0.0.1"})


def test_no_kubeconfig_at_the_usual_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SubmissionError, match=f"KUBECONFIG is not set, {tmp_path}/.kube/config is no file"):
        find_identity(None, tmp_path, {})
    with pytest.raises(SubmissionError, match="context 'team-a': no kubeconfig"):
        find_identity("team-a", tmp_path, {"KUBERNETES_SERVICE_HOST": "127.0.0.1"})


def test_the_usual_place(server: KubeServer, patience: Patience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / ".kube").mkdir()
    server.kubeconfig(tmp_path, namespace="team-a").rename(tmp_path / ".kube" / "config")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    api = KubeApi.connect(patience=patience)
    assert api.namespace == "team-a"
    assert api.list(CONFIG_MAP) == []


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "is empty or no kubeconfig"),
        ("- a list", "is empty or no kubeconfig"),
        (f"users: [token: {SECRET}\n  : {{", "cannot be read"),
        (
            f"apiVersion: v1\nusers:\n- name: {SECRET}\n",
            "no current-context, of none at all; name one with --kube-context",
        ),
        ("current-context: a\ncontexts: 3\n", "no context 'a'.*none at all"),
        ("current-context: a\ncontexts:\n- name: b\n- name: c\n", "no context 'a' in .*, which has b, c; name one"),
        ("current-context: a\ncontexts: [{name: a, context: 3}]\nclusters: [3]\n", "no server of http or https"),
        ("current-context: a\ncontexts:\n- {name: a, context: {cluster: x}}\n", "no server of http or https"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used(text: str, match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(SubmissionError, match=match) as refused:
        KubeApi.connect()
    assert str(path) in str(refused.value)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_user_who_acts_as_another_one_is_refused(config: Path):
    change(config, users=[{"name": "tester", "user": {"token": SECRET, "as": "admin"}}])
    with pytest.raises(SubmissionError, match=r"acts as another one \(admin\)"):
        KubeApi.connect()


def test_a_token_does_not_leave_this_machine_in_the_clear(config: Path):
    change(config, clusters=[{"name": "test", "cluster": {"server": "http://192.0.2.1:6443"}}])
    with pytest.raises(SubmissionError, match=r"http://192\.0\.2\.1: .*would send its token.*https"):
        KubeApi.connect()


def test_a_context_is_chosen_by_name_with_its_namespace(config: Path, patience: Patience):
    contexts = [
        {"name": "test", "context": {"cluster": "test", "user": "tester"}},
        {"name": "other", "context": {"cluster": "test", "user": "tester", "namespace": "team-b"}},
    ]
    change(config, contexts=contexts)
    assert KubeApi.connect(patience=patience).namespace == "default"
    assert KubeApi.connect("other", patience=patience).namespace == "team-b"
    assert KubeApi.connect("other", "mine", patience=patience).namespace == "mine"
    with pytest.raises(SubmissionError, match=r"no context 'third' in .*, which has test, other"):
        KubeApi.connect("third", patience=patience)


def test_several_kubeconfigs_are_one(
    server: KubeServer, patience: Patience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = yaml.safe_load(server.kubeconfig(tmp_path).read_text())
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text(yaml.safe_dump({key: whole[key] for key in ("current-context", "contexts")}))
    second.write_text(yaml.safe_dump({key: whole[key] for key in ("clusters", "users")}))
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, (first, tmp_path / "absent", second))))
    assert KubeApi.connect(patience=patience).list(CONFIG_MAP) == []


def test_of_several_kubeconfigs_the_first_says_which_context_is_current(
    server: KubeServer, patience: Patience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = yaml.safe_load(server.kubeconfig(tmp_path).read_text())
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text(yaml.safe_dump(whole))
    context = {"name": "other", "context": {"cluster": "test", "user": "nobody", "namespace": "team-b"}}
    user = {"name": "nobody", "user": {"token": "another-token"}}
    second.write_text(yaml.safe_dump({"current-context": "other", "contexts": [context], "users": [user]}))
    monkeypatch.setenv("KUBECONFIG", f"{first}{os.pathsep}{second}")
    api = KubeApi.connect(patience=patience)
    assert api.namespace == "default"
    assert api.list(CONFIG_MAP) == []


def test_a_token_that_expires_is_read_again(server: KubeServer, config: Path, patience: Patience):
    api = KubeApi.connect(patience=patience)
    assert api.list(CONFIG_MAP) == []
    server.tokens = {"a-renewed-token": "me"}
    with pytest.raises(
        SubmissionError, match=r"does not accept the credentials of current context of .*; log in again"
    ):
        api.list(CONFIG_MAP)
    server.kubeconfig(config.parent, token="a-renewed-token")
    assert api.list(CONFIG_MAP) == []


@pytest.mark.usefixtures("config")
def test_a_token_that_expires_in_a_log_is_read_again(server: KubeServer, config: Path, patience: Patience):
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "night"}}
    server.store.create(POD, "default", body | {"spec": {"containers": [{"name": "main", "image": "x:1"}]}})
    running = {
        "name": "main",
        "image": "x:1",
        "imageID": "",
        "ready": True,
        "restartCount": 0,
        "state": {"running": {}},
    }
    server.store.patch(POD, "default", "night", {"status": {"containerStatuses": [running]}}, part="status")
    container = ("default", "night", "main")
    log = KubeApi.connect(patience=patience).pod_log("night", follow=True)
    server.logs.say(container, "one")
    assert next(log) == "one"
    server.tokens = {"a-renewed-token": "me"}
    server.kubeconfig(config.parent, token="a-renewed-token")
    server.faults.add(Fault("cut", path="/log"))  # the next stream, with the renewed token, breaks too
    server.logs.say(container, "two")
    assert next(log) == "two"
    server.tokens = {}
    with pytest.raises(SubmissionError, match="log in again"):
        list(log)


@pytest.mark.usefixtures("config")
def test_credentials_are_read_again_once_for_a_request(server: KubeServer, patience: Patience):
    api = KubeApi.connect(patience=patience)
    server.tokens = {}
    with pytest.raises(SubmissionError):
        api.list(CONFIG_MAP)
    assert len(server.requests) == 2


def plugin(folder: Path, *lines: str) -> dict[str, object]:
    script = folder / "plugin.py"
    script.write_text("\n".join(("import json, pathlib, sys", *lines)))
    return {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": [str(script)]}


def test_a_credential_plugin_is_run_again_when_its_token_is_refused(
    server: KubeServer, patience: Patience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "token").write_text("first-token")
    status = "{'token': pathlib.Path(sys.argv[0]).with_name('token').read_text()}"
    answer = f"{{'apiVersion': 'client.authentication.k8s.io/v1', 'kind': 'ExecCredential', 'status': {status}}}"
    path = server.kubeconfig(tmp_path, exec=plugin(tmp_path, f"print(json.dumps({answer}))"))
    monkeypatch.setenv("KUBECONFIG", str(path))
    server.tokens = {"first-token": "me"}
    api = KubeApi.connect(patience=patience)
    assert api.list(CONFIG_MAP) == []
    server.tokens = {"second-token": "me"}
    (tmp_path / "token").write_text("second-token")
    assert api.list(CONFIG_MAP) == []


@pytest.mark.parametrize("lines", [("sys.exit(1)",), (f"print('{SECRET}')",), (f"sys.exit('{SECRET}')",)])
def test_a_credential_plugin_that_fails_is_named_and_not_quoted(
    server: KubeServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
):
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path, exec=plugin(tmp_path, *lines))))
    with pytest.raises(SubmissionError, match=f"credential plugin '{Path(sys.executable).name}' gave no") as refused:
        KubeApi.connect()
    assert SECRET not in str(refused.value)
    assert SECRET not in caplog.text + "".join(capfd.readouterr())


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """The folder in which a pod finds its service account."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "token").write_text("a-token-of-tests")
    (folder / "namespace").write_text("team-a")
    return folder


def in_pod(server: KubeServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))


def test_in_a_pod_its_service_account_is_used_and_its_token_renewed(
    kube_server_https: KubeServer,
    server_certificate: Path,
    account: Path,
    patience: Patience,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    (account / "ca.crt").write_bytes(server_certificate.read_bytes())
    server = kube_server_https
    in_pod(server, tmp_path, monkeypatch)
    api = KubeApi.connect(patience=patience, account=account)
    assert api.namespace == "team-a"
    assert api.list(POD) == []
    server.tokens = {"a-renewed-token": "me"}
    (account / "token").write_text("a-renewed-token")
    assert api.list(POD) == []


def test_in_a_pod_without_a_token_the_way_out_is_named(
    server: KubeServer, account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    in_pod(server, tmp_path, monkeypatch)
    (account / "token").unlink()
    with pytest.raises(SubmissionError, match="automountServiceAccountToken"):
        KubeApi.connect(account=account)


def test_a_server_with_another_certificate_is_not_spoken_to(
    kube_server_https: KubeServer, patience: Patience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    other = make_certificate(tmp_path)
    server = kube_server_https
    path = server.kubeconfig(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(path))
    assert KubeApi.connect(patience=patience).list(POD) == []
    server.requests.clear()
    change(path, clusters=[{"name": "test", "cluster": {"server": server.url, "certificate-authority": str(other)}}])
    with pytest.raises(SubmissionError, match=r"no secure connection: .*certificate-authority"):
        KubeApi.connect(patience=patience).list(POD)
    assert server.requests == []


def test_a_certificate_that_is_not_verified_is_warned_of_once(
    kube_server_https: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    server = kube_server_https
    path = server.kubeconfig(tmp_path)
    change(path, clusters=[{"name": "test", "cluster": {"server": server.url, "insecure-skip-tls-verify": True}}])
    monkeypatch.setenv("KUBECONFIG", str(path))
    code = """
from cluster.kube.client.api import KubeApi
from cluster.kube.client.kinds import CONFIG_MAP, POD
for _ in range(3):
    api = KubeApi.connect()
    for kind in (POD, CONFIG_MAP, POD):
        print(api.list(kind))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n" * 9, done.stderr
    assert done.stderr.count("InsecureRequestWarning") == 1


def test_https_to_a_server_without_it_is_told_at_once(config: Path, server: KubeServer, patience: Patience):
    change(config, clusters=[{"name": "test", "cluster": {"server": server.url.replace("http", "https")}}])
    with pytest.raises(SubmissionError, match=r"no secure connection: .*see server"):
        KubeApi.connect(patience=patience).list(POD)


def test_an_address_with_a_password_is_not_shown(config: Path, server: KubeServer, hasty: Patience):
    address = server.url.replace("http://", f"http://me:{SECRET}@")
    change(config, clusters=[{"name": "test", "cluster": {"server": address}}])
    api = KubeApi.connect(patience=hasty)
    assert api.server == server.url
    server.stop()
    with pytest.raises(Exception, match=server.url) as refused:
        api.list(POD)
    assert SECRET not in str(refused.value)


def test_the_client_is_not_imported_before_it_is_needed():
    modules = "cluster.kube.client.kinds, cluster.jobs, cluster.kube.client.outage"
    code = f"import sys, {modules}; print('kubernetes' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
