"""Whether a process has ended, told from its identity alone."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest

from cluster.storage.process_identity import ProcessIdentity

WAITS = (
    "from cluster.storage.process_identity import ProcessIdentity as P; import json; "
    "print(json.dumps(P.current().to_json())); input()"
)


@pytest.fixture
def other() -> Iterator[subprocess.Popen[str]]:
    """A process that prints its identity and waits."""
    process = subprocess.Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def test_a_process_is_alive_until_it_ends_even_when_nobody_has_asked_for_its_exit_code(
    other: subprocess.Popen[str],
) -> None:
    assert other.stdout is not None
    identity = ProcessIdentity.from_json(json.loads(other.stdout.readline()))
    assert identity.pid == other.pid
    assert identity.is_here()
    assert not identity.is_dead_here()
    assert identity.is_alive_here()
    psutil.Process(other.pid).suspend()
    while psutil.Process(other.pid).status() != psutil.STATUS_STOPPED:
        pass
    assert not identity.is_alive_here()
    assert not identity.is_dead_here()
    psutil.Process(other.pid).kill()
    while psutil.Process(other.pid).status() != psutil.STATUS_ZOMBIE:  # not reaped yet
        pass
    assert identity.is_dead_here()
    other.wait()
    assert identity.is_dead_here()


def test_a_later_process_with_the_same_pid_is_another_one() -> None:
    me = ProcessIdentity.current()
    assert not me.is_dead_here()
    assert replace(me, started=me.started - 1.0).is_dead_here()
    assert not replace(me, started=me.started - 1.0).is_alive_here()


@pytest.mark.parametrize("field", ["host", "boot_id", "pid_namespace"])
def test_what_runs_elsewhere_is_never_called_dead(field: str) -> None:
    elsewhere = replace(ProcessIdentity.current(), pid=2**22 + 1, **{field: "elsewhere"})
    assert not elsewhere.is_here()
    assert not elsewhere.is_dead_here()
    assert not elsewhere.is_alive_here()
