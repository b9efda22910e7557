"""Each refusal says what was asked, why not, and what to do; none says who we are."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.errors import NoSuchObjectError, ObjectChangedError, SubmissionError, TargetUnreachableError
from cluster.kube.client.api import KubeApi
from cluster.kube.client.kinds import CONFIG_MAP, LOCAL_QUEUE, NAMESPACE, POD, RAY_JOB, SECRET, Kind, Object
from cluster.kube.client.outage import Patience
from tests.kube_server.faults import Fault
from tests.kube_server.server import KubeServer
from tests.laws import examples
from tests.manifests import crd_schemas


def ray_job(**spec: object) -> Object:
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "night"}, "spec": spec}


@pytest.mark.parametrize(
    ("verb", "call"),
    {
        "get": lambda api: api.get(RAY_JOB, "night"),
        "list": lambda api: api.list(RAY_JOB),
        "create": lambda api: api.create(RAY_JOB, ray_job()),
        "update": lambda api: api.replace(RAY_JOB, ray_job()),
        "patch": lambda api: api.patch(RAY_JOB, "night", {}),
    }.items(),
)  # fmt: skip
def test_no_permission_names_verb_and_resource(api: KubeApi, server: KubeServer, verb: str, call):
    server.deny(verb, "rayjobs")
    with pytest.raises(SubmissionError) as refused:
        call(api)
    said = str(refused.value)
    assert f"{verb} RayJob" in said
    assert "in namespace default is not allowed" in said
    assert f'cannot {verb} resource "rayjobs" in API group "ray.io"' in said
    assert f"ask for a Role with verb {verb} on rayjobs.ray.io" in said
    assert "\n" not in said


def test_no_permission_for_all_of_the_cluster(api: KubeApi, server: KubeServer):
    server.deny("create", "namespaces")
    with pytest.raises(SubmissionError, match=r"create Namespace 'x' is not allowed: .*at the cluster scope"):
        api.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}})


def test_no_permission_to_delete_names_it_and_leaves_the_object(api: KubeApi, server: KubeServer):
    api.create(CONFIG_MAP, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}})
    server.deny("delete", "configmaps")
    with pytest.raises(SubmissionError, match="delete ConfigMap 'one' in namespace default is not allowed"):
        api.delete(CONFIG_MAP, "one")
    assert api.get(CONFIG_MAP, "one")


def test_no_such_namespace_secret_or_object(api: KubeApi):
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "namespace": "team-x"}}
    with pytest.raises(NoSuchObjectError, match=r"no namespace 'team-x'; create it .*kubectl create namespace team-x"):
        api.create(CONFIG_MAP, body)
    with pytest.raises(NoSuchObjectError, match="get Secret 's3-keys' in namespace default: there is none"):
        api.get(SECRET, "s3-keys")
    with pytest.raises(NoSuchObjectError, match="get Namespace 'team-x': there is none"):
        api.get(NAMESPACE, "team-x")
    with pytest.raises(NoSuchObjectError, match="patch RayJob 'night'"):
        api.patch(RAY_JOB, "night", {})
    with pytest.raises(NoSuchObjectError, match="update RayJob 'night'"):
        api.replace(RAY_JOB, ray_job())
    assert api.list(CONFIG_MAP, namespace="team-x") == []


@pytest.mark.parametrize(
    "call",
    [
        lambda api: api.get(RAY_JOB, "night"),
        lambda api: api.list(RAY_JOB),
        lambda api: api.create(RAY_JOB, ray_job()),
        lambda api: api.delete(RAY_JOB, "night"),
    ],
)
def test_an_operator_that_is_absent_or_of_another_version_is_told_from_an_object(
    api: KubeApi, server: KubeServer, call
):
    server.serve_other_version("ray.io", "v1alpha1")
    with pytest.raises(SubmissionError, match=r"ray\.io serves v1alpha1; v1 is needed: KubeRay 1\.1 or newer") as old:
        call(api)
    assert not isinstance(old.value, NoSuchObjectError)
    server.remove_group("ray.io")
    with pytest.raises(
        SubmissionError, match=r"serves no ray\.io: KubeRay is not installed.*--cluster\.address"
    ) as absent:
        call(api)
    assert not isinstance(absent.value, NoSuchObjectError)


def test_kueue_absent_of_another_version_or_without_the_kind(api: KubeApi, server: KubeServer):
    with pytest.raises(
        SubmissionError, match=r"kueue\.x-k8s\.io/v1beta2 has no topologies; Kueue 0\.\d+ or newer is needed"
    ):
        api.list(Kind("kueue.x-k8s.io/v1beta2", "Topology", "topologies", namespaced=False))
    server.serve_other_version("kueue.x-k8s.io", "v1beta1")
    with pytest.raises(SubmissionError, match=r"kueue\.x-k8s\.io serves v1beta1; v1beta2 is needed: Kueue"):
        api.list(LOCAL_QUEUE)
    server.remove_group("kueue.x-k8s.io")
    with pytest.raises(SubmissionError, match="Kueue is not installed"):
        api.list(LOCAL_QUEUE)


@pytest.mark.skipif(not crd_schemas.available(), reason=crd_schemas.MISSING)
def test_a_wrong_body_is_refused_by_its_fields(api: KubeApi):
    with pytest.raises(SubmissionError, match=r'unknown field "spec\.entrypint"'):
        api.create(RAY_JOB, ray_job(entrypint="python"))
    with pytest.raises(SubmissionError, match=r"refused with 422: .*spec\.backoffLimit"):
        api.create(RAY_JOB, ray_job(backoffLimit="three"))


def test_what_a_webhook_says_is_passed_on_in_one_line(api: KubeApi, server: KubeServer):
    said = 'admission webhook "vrayjob.kb.io" denied the request:\n  spec.suspend: Invalid value: true:\n  queue-name'
    server.faults.add(Fault("answer", verb="create", code=403, message=said))
    with pytest.raises(SubmissionError) as refused:
        api.create(RAY_JOB, ray_job())
    assert str(refused.value) == "create RayJob 'night' in namespace default: refused with 403: " + " ".join(
        said.split()
    )
    server.faults.add(Fault("answer", verb="create", code=400, message="too long " * 10_000))
    with pytest.raises(SubmissionError, match="more characters") as refused:
        api.create(RAY_JOB, ray_job())
    assert len(str(refused.value)) < 3000


def test_what_is_no_api_server_is_told(api: KubeApi, server: KubeServer):
    server.faults.add(Fault("page", code=200, message="Welcome"))
    with pytest.raises(SubmissionError, match=f"{server.url} answers /api/v1/.* is it an API server's address"):
        api.get(POD, "x")


def test_an_address_that_serves_nothing_of_kubernetes_is_told(api: KubeApi, server: KubeServer):
    server.store.kinds = ()
    with pytest.raises(SubmissionError, match=r"serves no pods of v1; is it an API server's address"):
        api.get(POD, "x")


TOKENS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/", min_size=12, max_size=60)


@settings(max_examples=examples(0.12), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TOKENS, st.sampled_from(["answer", "page"]), st.sampled_from([400, 401, 403, 404, 409, 422, 500, 503]))
def test_no_error_has_our_token_in_it_whatever_the_server_says(
    server: KubeServer, hasty: Patience, tmp_path: Path, token: str, trouble: str, code: int
):
    server.faults.clear()
    server.tokens[token] = "me"
    identity = str(server.kubeconfig(tmp_path, token=token))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", identity)
        api = KubeApi.connect(patience=hasty)
    said = f"Bearer {token}: {token}\n{token}"
    server.faults.add(Fault(trouble, 10_000, code=code, message=said))
    for call in (
        lambda: api.create(CONFIG_MAP, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}),
        lambda: api.list(CONFIG_MAP),
        lambda: next(api.pod_log("pod", follow=True)),
    ):
        with pytest.raises((SubmissionError, TargetUnreachableError)) as refused:
            call()
        error: BaseException | None = refused.value
        while error is not None:
            assert token not in str(error)
            error = error.__cause__ or error.__context__


def test_who_was_first_is_told_from_an_outage(api: KubeApi, server: KubeServer):
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}
    server.store.create(CONFIG_MAP, "default", body)
    server.faults.add(Fault("lost", verb="create"))
    with pytest.raises(ObjectChangedError, match=r"create ConfigMap 'one' in namespace default: .*already exists"):
        api.create(CONFIG_MAP, body)
