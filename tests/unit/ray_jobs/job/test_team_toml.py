"""A team's file: what is wrong with it is said by key, value, rule and remedy."""

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.kube.queues.team import Amounts, Team
from ray_jobs.errors import ConfigError
from ray_jobs.job.team_toml import example_team, print_team, read_team, read_team_text

GOOD = """
[team]
name = "vision"

[[quota]]
flavor = "a100"
gpus = 4
"""
SHARED = '{ resource = "nvidia.com/gpu.shared", count = 1 }'


def test_a_short_file_is_enough() -> None:
    team = read_team_text(GOOD, "team.toml")
    assert (team.namespace, team.team.cohort, team.quota[0].borrow) == ("vision", "resnet-dist", Amounts())
    assert team.preemption.reclaim_within_cohort == "Any"


def test_none_leaves_the_cohort() -> None:
    team = read_team_text(GOOD.replace('"vision"', '"vision"\ncohort = "none"'), "team.toml")
    assert team.team.cohort is None
    assert read_team_text(print_team(team), "printed") == team


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"vision"', '"Vision"', r"team\.name='Vision': must be 1 to 63 lower-case letters"),
        ('"vision"', f'"{"v" * 64}"', r"team\.name='v{64}': must be 1 to 63"),
        ('"vision"', '"-v"', r"team\.name='-v': must be 1 to 63"),
        ('"vision"', '"vision.lab"', r"team\.name='vision\.lab': must be 1 to 63"),
        ('"vision"', '"kube-system"', r"team\.name='kube-system' is its namespace, too, .* take one of the team's own"),
        ('"vision"', '"v"\nnamespace = "default"', r"team\.namespace='default': belongs to the cluster"),
        ('"vision"', '"v"\nnamspace = "x"', r"team\.namspace: unknown key; did you mean team\.namespace\?"),
        ('"vision"', '"v"\nweight = 0.0', r"team\.weight=0\.0: .* 0\.001"),
        ('"vision"', '"v"\nweight = 0.0015', r"team\.weight=0\.0015: must have at most three decimals"),
        ("name =", "nane =", r"team\.name: is missing; .*--print-team"),
        ("gpus = 4", "gpus = -1", r"quota\.gpus=-1: .*greater than or equal to 0 \(\[\[quota\]\] number 1\)"),
        ("gpus = 4", "gpus = 100001", r"quota\.gpus=100001: .*less than or equal to 100000"),
        ("gpus = 4", 'gpus = "4"', r"quota\.gpus='4': .*valid integer"),
        ("gpus = 4", "gpus = 1.5", r"quota\.gpus=1\.5: .*valid integer"),
        ("gpus = 4", "gpu = 4", r"quota\.gpu: unknown key \(\[\[quota\]\] number 1\); did you mean .*quota\.gpus"),
        ("gpus = 4", "borrow = { gpu = 4 }", r"quota\.borrow\.gpu: unknown key .*did you mean quota\.borrow\.gpus\?"),
        ("gpus = 4", "gpus = 4\nlend = { gpus = 5 }", r"quota\.lend\.gpus=5 is more than .*use at most gpus = 4"),
        ("gpus = 4", 'gpus = 4\n[[quota]]\nflavor = "a100"', r"quota\.flavor='a100' is there twice"),
        ("gpus = 4", "devices = 7", r"quota\.devices=7: .*array \(\[\[quota\]\] number 1\)"),
        (
            "gpus = 4",
            'devices = [{ resource = "nvidia.com/gpu", count = 1 }]',
            r"quota\.devices\.0\.resource='nvidia\.com/gpu': is a whole GPU, which the key gpus counts",
        ),
        (
            "gpus = 4",
            'devices = [{ resource = "mig-1g.10gb", count = 1 }]',
            r"quota\.devices\.0\.resource='mig-1g\.10gb': must be nvidia\.com/gpu, .*kubectl describe nodes",
        ),
        (
            "gpus = 4",
            'devices = [{ resource = "nvidia.com/mig-1g.10gb", count = 1, lend = 2 }]',
            r"quota\.devices: lend=2 of nvidia\.com/mig-1g\.10gb is more than count=1.*use at most lend = 1",
        ),
        (
            "gpus = 4",
            f"devices = [{SHARED}, {SHARED}]",
            r"quota\.devices: flavor 'a100' has nvidia\.com/gpu\.shared twice; make one table",
        ),
        ("gpus = 4", 'gpus = 4\n[preemption]\nreclaim_within_cohort = "never"', r"='never': .*'Never'.*'Any'"),
        (
            "gpus = 4",
            'gpus = 4\n[preemption]\nreclaim_within_cohort = "Never"\nborrow_within_cohort = "LowerPriority"',
            r"preemption\.borrow_within_cohort='LowerPriority' needs reclaim_within_cohort",
        ),
        ("gpus = 4", 'gpus = 4\n[members]\nusers = "me"', r"members\.users='me': .*array"),
        ("gpus = 4", 'gpus = 4\n[members]\nusers = [" "]', r"members\.users\.0=' ': must be 1 to 1024 printable"),
        ("gpus = 4", 'gpus = 4\n[storage]\nsecret = "a b"', r"storage\.secret='a b': must be 1 to 253"),
        ("gpus = 4", "gpus = 4\n[storrage]", r"storrage: unknown key; did you mean storage\?"),
        ('[[quota]]\nflavor = "a100"\ngpus = 4', "", r"quota: is missing"),
        ("[team]", "[team", r"team\.toml is not TOML"),
    ],
)
def test_what_is_wrong_is_said_with_key_value_rule_and_remedy(old: str, new: str, said: str) -> None:
    text = GOOD.replace(old, new)
    assert text != GOOD
    with pytest.raises(ConfigError, match=said):
        read_team_text(text, "team.toml")


def test_a_team_without_a_share_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^quota: a team without a share runs nothing; write a \[\[quota\]\]"):
        read_team_text('quota = []\n[team]\nname = "vision"\n', "team.toml")


def test_a_limit_without_a_cohort_is_refused() -> None:
    text = GOOD.replace('"vision"', '"v"\ncohort = "none"').replace("gpus = 4", "gpus = 4\nborrow = { gpus = 1 }")
    with pytest.raises(ConfigError, match=r"quota\.borrow of flavor 'a100' needs a cohort"):
        read_team_text(text, "team.toml")


def test_limits_of_devices_without_a_cohort_are_refused() -> None:
    devices = 'devices = [{ resource = "nvidia.com/mig-1g.10gb", count = 1, borrow = 1 }]'
    text = GOOD.replace('"vision"', '"v"\ncohort = "none"').replace("gpus = 4", devices)
    with pytest.raises(
        ConfigError, match=r"borrow and lend of nvidia\.com/mig-1g\.10gb in flavor 'a100' need a cohort"
    ):
        read_team_text(text, "team.toml")


def test_more_resources_than_kueue_takes_are_refused() -> None:
    devices = ", ".join(f'{{ resource = "nvidia.com/mig-1g.{gib}gb", count = 1 }}' for gib in range(1, 63))
    with pytest.raises(ConfigError, match=r"quota\.devices: 62 resources are more than the 61 that Kueue takes"):
        read_team_text(GOOD.replace("gpus = 4", f"devices = [{devices}]"), "team.toml")


def test_devices_are_printed_and_read_back() -> None:
    devices = 'devices = [{ resource = "nvidia.com/mig-1g.10gb", count = 14, borrow = 7 }]'
    team = read_team_text(GOOD.replace("gpus = 4", f"gpus = 4\n{devices}"), "team.toml")
    assert team.devices == ("nvidia.com/mig-1g.10gb",)
    assert devices in print_team(team)
    assert read_team_text(print_team(team), "printed") == team


def test_all_problems_are_said_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        read_team_text(GOOD.replace('"vision"', '"V"').replace("gpus = 4", "gpus = -1\ncpu = 3"), "team.toml")
    assert len(str(refused.value).splitlines()) == 3


def test_the_file_must_be_that_of_the_team(tmp_path: Path) -> None:
    path = tmp_path / "team.toml"
    path.write_text(GOOD)
    assert read_team(path, "vision").team.name == "vision"
    with pytest.raises(ConfigError, match=r"team\.name='vision' is not 'inspection'"):
        read_team(path, "inspection")
    with pytest.raises(ConfigError, match=r"missing\.toml cannot be read .*--print-team"):
        read_team(tmp_path / "missing.toml", "vision")


def test_the_example_describes_every_key_and_is_read_back() -> None:
    printed = print_team(example_team("vision"))
    assert read_team_text(printed, "printed") == example_team("vision")
    for section in Team.model_fields:
        assert f"[{section}]" in printed
    for key in ("namespace", "cohort", "users", "lend", "within_cluster_queue", "claim"):
        (at,) = [at for at, line in enumerate(printed.splitlines()) if line.lstrip("# ").startswith(f"{key} =")][:1]
        assert printed.splitlines()[at - 1].startswith("# ")


def test_a_name_that_no_team_can_have_has_no_example() -> None:
    with pytest.raises(ConfigError, match="team 'Vision': must be"):
        example_team("Vision")


def test_reading_a_team_needs_neither_torch_nor_kubernetes() -> None:
    code = (
        "import sys, ray_jobs.job.team_toml; "
        "print([name for name in ('torch', 'kubernetes', 'ray', 'yaml', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
