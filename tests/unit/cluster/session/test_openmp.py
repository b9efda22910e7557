"""A bound on OpenMP's spinning is set where the user has set nothing, and the library that torch loads obeys."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.session.openmp import BOUNDED_SPINNING, WAIT_POLICY, bound_spinning, bounded_spinning

NAMES = [*BOUNDED_SPINNING, WAIT_POLICY, "PATH"]


@given(st.dictionaries(st.sampled_from(NAMES), st.text("0123456789", min_size=1)))
def test_nothing_that_the_user_has_set_changes(given_values: dict[str, str]):
    after = dict(given_values)
    bound_spinning(after)
    assert given_values.items() <= after.items()
    assert after == given_values | bounded_spinning(given_values)
    if WAIT_POLICY in given_values:
        assert after == given_values
    else:
        assert BOUNDED_SPINNING.keys() <= after.keys()


@pytest.mark.skipif(sys.platform != "linux", reason="torch's wheels bring GNU's library on Linux only")
@pytest.mark.parametrize(
    ("given_values", "spins"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "77"}, "77"), ({WAIT_POLICY: "PASSIVE"}, "0"), ({WAIT_POLICY: "ACTIVE"}, None)],
)
def test_the_library_obeys_what_a_command_sets_before_it_loads_torch(given_values: dict[str, str], spins: str | None):
    code = (
        "import sys; sys.argv = ['resnet-dist', '--version']\n"
        "from ray_jobs.__main__ import main\n"
        "main()\n"
        "assert 'torch' not in sys.modules\n"
        "import torch"
    )
    environment = {name: value for name, value in os.environ.items() if name not in NAMES[:-1]}
    environment |= {"OMP_DISPLAY_ENV": "verbose", **given_values}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    (shown,) = {line.split("'")[1] for line in done.stderr.splitlines() if "GOMP_SPINCOUNT" in line}
    if spins is None:
        assert shown not in {"10000", "0"}
    else:
        assert shown == spins
