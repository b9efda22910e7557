"""What a job printed is shown without what Ray printed around it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.job_log import own_lines

BANNER = """\x1b[2m2026-11-30 10:00:00,123\tINFO cli.py:41 -- \x1b[22mJob submission server address: http://tiles-head:8265

\x1b[32m-----------------------------------------\x1b[39m
\x1b[32mJob 'tiles-x7' submitted successfully\x1b[39m
\x1b[32m-----------------------------------------\x1b[39m

\x1b[36mNext steps\x1b[39m
  Query the logs of the job:
    \x1b[1mray job logs tiles-x7\x1b[22m
  Query the status of the job:
    ray job status tiles-x7
  Request the job to be stopped:
    ray job stop tiles-x7

Job submission server address: http://tiles-head:8265
2026-11-30 10:00:02,101\tINFO job_manager.py:568 -- Runtime env is setting up.
Running entrypoint for job tiles-x7: python -m ray_jobs.submission.entrypoint train
""".splitlines()
FAILED = """
------------------------
Job 'tiles-x7' failed
------------------------

Status message: Job entrypoint command failed with exit code 3, last available logs (truncated to 20,000 chars):
epoch 1
""".splitlines()


def test_rays_words_are_left_out() -> None:
    own = ["s3://b/runs/tiles: 3 classes", "", "---", "epoch 1", "error: images are missing"]
    assert list(own_lines([*BANNER, *own, *FAILED[1:]])) == own
    assert list(own_lines([*own, *FAILED])) == [*own, ""]
    assert list(own_lines(BANNER)) == []


HEALTH_CHECK = """Traceback (most recent call last):
  File "/env/bin/ray", line 8, in <module>
    sys.exit(main())
ray.exceptions.RpcError: failed to connect to all addresses

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/env/ray/scripts/scripts.py", line 2500, in healthcheck
    ray._private.state.api()
SystemExit: 1
[2026-11-30 10:00:01,000 W 12 12] gcs_rpc_client.h:151: Failed to connect to GCS
""".splitlines()


def test_tracebacks_are_left_out_where_rays_words_follow_them() -> None:
    assert list(own_lines([*HEALTH_CHECK, *HEALTH_CHECK, *BANNER, "epoch 1"])) == ["epoch 1"]
    assert list(own_lines([*HEALTH_CHECK[:-1], "", *BANNER, "epoch 1"])) == ["epoch 1"]


def test_a_jobs_own_traceback_is_kept() -> None:
    own = HEALTH_CHECK[:-1]
    assert list(own_lines([*HEALTH_CHECK, *BANNER, *own, "attempt 1 of 4"])) == [*own, "attempt 1 of 4"]
    assert list(own_lines([*BANNER, *own])) == own
    assert list(own_lines([*BANNER, *own, *FAILED[1:]])) == own
    assert list(own_lines([*BANNER, *own, *FAILED])) == [*own, ""]
    assert list(own_lines(["epoch 1", *own, *FAILED[1:]])) == ["epoch 1", *own]


def test_a_first_line_that_only_begins_as_rays_is_the_jobs() -> None:
    assert list(own_lines(["SUCCESS of the test images", "epoch 1"])) == ["SUCCESS of the test images", "epoch 1"]


@pytest.mark.parametrize("line", ["Job 'a' submitted successfully", "Job 'a' failed", "Next steps", ""])
def test_a_job_may_say_the_same_later(line: str) -> None:
    assert list(own_lines(["epoch 1", line, "epoch 2"])) == ["epoch 1", line, "epoch 2"]


@given(st.lists(st.text(alphabet="ab-: '", min_size=1, max_size=12)))
def test_no_line_of_a_job_is_lost_behind_its_first(lines: list[str]) -> None:
    assert list(own_lines(["epoch 1", *lines])) == ["epoch 1", *lines]
