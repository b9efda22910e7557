"""A bare name is never a path, whatever lies in the working directory."""

from pathlib import Path

import pytest

from cluster.storage.store import Store
from ray_jobs.run.argument import names_a_place
from ray_jobs.run.directory import RunDirectory
from resnet_dist.errors import RunError


@pytest.mark.parametrize("place", ["./a", "a/", "/a", "a/b", "s3://bucket/a", "file:///a", ".", ".."])
def test_a_path_has_a_slash(place: str):
    assert names_a_place(place)


def test_a_bare_name_is_looked_up_under_the_storage_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    RunDirectory.named("out", "tiles").store.write("config.toml", b"name = 'there'")
    Store.open("tiles").write("config.toml", b"name = 'here'")
    assert RunDirectory.find("tiles", "out").read_config().name == "there"
    assert RunDirectory.find("./tiles", "out").read_config().name == "here"
    (tmp_path / "others").mkdir()
    with pytest.raises(RunError) as caught:
        RunDirectory.find("others", "out")
    assert str(caught.value).endswith(
        "out/runs/others has no config.toml; runs there: tiles; for the folder others here give ./others"
    )
