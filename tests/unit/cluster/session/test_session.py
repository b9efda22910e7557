"""The Ray of a command, in a process of its own: what it listens on, and what is left of it."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.session.session import UNWATCHED

SESSION = """
    import json, os, subprocess, sys
    import psutil, ray
    from cluster.config import ClusterConfig
    from cluster.session.session import UNWATCHED, cluster_resources, ray_session

    def say(**what):
        print(json.dumps(what), flush=True)

    @ray.remote
    def pid():
        return os.getpid()

    @ray.remote
    def nice():
        return os.nice(0)

    JOIN = '''if True:
        import os, ray
        from cluster.config import ClusterConfig
        from cluster.session.session import cluster_resources, ray_session
        with ray_session(ClusterConfig(address=os.environ["RAY_ADDRESS"])):
            print(cluster_resources()[0])
        assert not ray.is_initialized()
    '''
    os.environ["RAY_ADDRESS"] = "192.0.2.1:1"  # somebody else's: not to be touched

    try:
        with ray_session(ClusterConfig(local_cpus=3)):
            worker = ray.get(pid.remote())
            niceness = ray.get(nice.remote())
            joined = subprocess.run([sys.executable, "-c", JOIN], capture_output=True, text=True)
            with ray_session(ClusterConfig(local_cpus=1)):
                inner = cluster_resources()
            here = psutil.Process()
            pids = {here.pid, *(process.pid for process in here.children(recursive=True))}
            asked = ["name", "cmdline", "environ"]
            found = [each.info for each in psutil.process_iter(asked) if each.pid in pids]
            listening = [item for item in psutil.net_connections() if item.pid in pids and item.status == "LISTEN"]
            say(
                worker=worker,
                niceness=niceness,
                joined=joined.stdout.strip() or joined.stderr,
                inner=inner,
                still=ray.get(pid.remote()) > 0,
                open_to=sorted({item.laddr.ip for item in listening}),
                pids=sorted(pids - {here.pid}),
                commands=[" ".join(each["cmdline"] or ()) for each in found],
                raylet=[
                    {name: each["environ"].get(name) for name in UNWATCHED}
                    for each in found
                    if each["name"] == "raylet"
                ],
                auth=os.environ["RAY_AUTH_MODE"],
                modes=[oct(entry.stat().st_mode & 0o777) for entry in os.scandir(os.environ["TMPDIR"])],
            )
            input()
    except KeyboardInterrupt:
        unwatched = [name for name in UNWATCHED if name in os.environ]
        say(interrupted=True, address=os.environ["RAY_ADDRESS"], initialised=ray.is_initialized(), unwatched=unwatched)
"""


@pytest.mark.timeout(180)
def test_an_embedded_ray_is_private_and_leaves_nothing_behind_when_interrupted(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    scratch = Path("/tmp") / f"rd-{os.getpid()}"  # a short path, empty but for what the session makes
    scratch.mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SESSION)],
        env={**clean, "HOME": str(home), "TMPDIR": str(scratch), "RAY_event_stats": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        printed: dict[str, Any] = json.loads(line)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
        assert rest, errors
        assert json.loads(rest) == {
            "interrupted": True,
            "address": "192.0.2.1:1",
            "initialised": False,
            "unwatched": ["RAY_event_stats"],
        }
        left = [pid for pid in printed["pids"] if psutil.pid_exists(pid)]
        assert not left, left
        assert list(scratch.iterdir()) == []
    finally:
        process.kill()
        process.wait()
        for entry in scratch.iterdir():
            print("left:", entry)
        subprocess.run(["rm", "-r", str(scratch)], check=True)
    assert printed["worker"] in printed["pids"]
    assert printed["niceness"] == os.nice(0)  # Ray's own choice is 15
    assert printed["joined"] == "3"  # another process may use it, and leaves it running
    assert printed["inner"][0] == 3  # a session within one is the same
    assert printed["still"]
    assert {address.removeprefix("::ffff:") for address in printed["open_to"]} == {"127.0.0.1"}
    assert printed["auth"] == "token"
    assert not [command for command in printed["commands"] if "log_monitor" in command]
    assert printed["raylet"] == [{**UNWATCHED, "RAY_event_stats": "1"}]  # as whoever runs this has it
    assert printed["modes"] == ["0o700"]
    assert list(home.iterdir()) == []
