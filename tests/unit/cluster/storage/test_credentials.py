"""Addresses that hold a secret are told from those that hold none, whatever characters the secret has."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import StorageError
from cluster.storage.credentials import (
    address_without_secret,
    holds_secret,
    refuse_credentials,
    without_secrets,
)
from cluster.storage.store import Store

SECRETS = st.text(st.characters(codec="utf-8") | st.sampled_from("/@:?#&;=%+ "), min_size=1)
OPTIONS = st.sampled_from(
    ["secret", "token", "password", "passwd", "secret_key", "access_key", "Access-Key-ID", "sig", "api_key", "key",
     "client_secret", "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "X-Goog-Signature", "AccountKey",
     "private_token", "auth", "%73ig", "%2573ig"]
)  # fmt: skip


@given(st.sampled_from(["s3", "S3", "gs", "abfs", "http", "postgresql+psycopg2", "wasbs", "hdfs"]), SECRETS)
def test_a_secret_beside_a_user_is_seen_whatever_it_holds(scheme: str, secret: str) -> None:
    assert holds_secret(f"{scheme}://AKIAEXAMPLE:{secret}@bucket/folder")
    assert holds_secret(f"{scheme}:/AKIAEXAMPLE:{secret}@bucket")  # with a slash too few, it would be a folder's name
    assert holds_secret(f"--storage.root={scheme}://AKIAEXAMPLE:{secret}@bucket")


@given(st.sampled_from(["s3://bucket/a", "https://host:8265", "abfs://c@a.dfs.core.windows.net/x"]), OPTIONS, SECRETS)
def test_a_secret_among_options_is_seen_whatever_it_holds(place: str, option: str, secret: str) -> None:
    for mark in "?#":
        assert holds_secret(f"{place}{mark}{option}={secret}")
        assert holds_secret(f"{place}{mark}region=eu&{option}={secret}&scheme=http")


@given(SECRETS.map(lambda secret: quote(secret, safe="")))
def test_a_user_alone_is_a_secret_where_no_scheme_has_users(secret: str) -> None:
    assert all(holds_secret(f"{scheme}://{secret}@host/path") for scheme in ("s3", "http", "https", "mlflow"))
    assert holds_secret(f"gs://{secret}@bucket") is (secret != "anonymous")
    assert holds_secret(f"abfs://user%3A{secret}@account")


@pytest.mark.parametrize(
    "address",
    [
        "outputs", "/mnt/a@b:c", "C:\\images", "s3://bucket/folder", "s3://bucket/photo@2x.png", "s3://bucket/a%3Ab",
        "s3://bucket/a?endpoint_override=127.0.0.1:9000&scheme=http&region=eu-west-1", "file:///tmp/a@b",
        "hdfs://me@namenode:8020/data", "abfs://container@account.dfs.core.windows.net/x", "gs://anonymous@bucket/x",
        "abfs://c@a.dfs.core.windows.net/x?credential_kind=environment", "http://head:8265", "ray://head:10001",
        "sqlite:////home/me@work/mlflow.db", "postgresql://host/db?sslmode=require&sslkey=/etc/key", "databricks",
        "s3://bucket/x?background_writes=true&allow_bucket_creation=false&tls_ca_file_path=/etc/ca",
    ],
)  # fmt: skip
def test_addresses_without_a_secret_are_left_alone(address: str) -> None:
    assert not holds_secret(address)
    refuse_credentials(address)
    assert address_without_secret(address) == without_secrets(address) == address


def test_a_path_with_a_colon_and_an_at_sign_can_be_written() -> None:
    assert holds_secret("s3://bucket/16:9/photo@2x")
    store = Store.open("s3://bucket/16:9/photo%402x?region=eu-west-1")
    assert store._full("a") == "bucket/16:9/photo@2x/a"


@given(
    st.sampled_from(["s3://key:{}@bucket/x", "s3://bucket/x?token={}&region=eu", "s3://a:{0}@b?secret={0}"]), SECRETS
)
def test_what_is_shown_and_what_refuses_repeat_nothing(form: str, secret: str) -> None:
    secret = f"zq{secret}qz"  # a text that stands nowhere else
    address = form.format(secret)
    shown = address_without_secret(address)
    assert secret not in shown
    assert shown.startswith("s3://")
    with pytest.raises(StorageError, match="environment") as refused:
        Store.open(address)
    assert secret not in str(refused.value)


@given(SECRETS.map(lambda secret: quote(secret, safe="/:+")))
def test_texts_of_others_lose_the_secrets_of_their_addresses(secret: str) -> None:
    secret = f"zq{secret}qz"
    text = f"cannot reach 'http://me:{secret}@host/x' (see https://docs/x?sig={secret} and http://host:80/a)"
    assert without_secrets(text) == ("cannot reach 'http://...@host/x' (see https://docs/x?... and http://host:80/a)")
